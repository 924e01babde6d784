from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("generation", "0011_languages_of_mini")]
    operations = [
        migrations.AddField("idempotencykey", "answer", models.BinaryField(null=True)),
        migrations.AlterField("idempotencykey", "task_id", models.UUIDField(null=True)),
    ]
