import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Measured memory of models, and imports that were asked for in the admin."""

    dependencies = [("generation", "0017_tasks_without_model")]
    operations = [
        migrations.AddField(
            "imagemodel", "measured_memory",
            models.JSONField(blank=True, default=dict, editable=False, help_text="By precision, as workers measured it: bytes, revision ..."),
        ),
        migrations.CreateModel(
            name="ModelImport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("file", models.CharField(help_text="In MODELS_DIR/.incoming.", max_length=255)),
                ("name", models.SlugField(blank=True, help_text="Of the model. Empty: that of the file.")),
                ("family", models.CharField(blank=True, help_text="Where the file does not show it: sd15, sdxl ...", max_length=40)),
                ("like", models.CharField(blank=True, help_text="Preset whose size, steps and guidance it gets.", max_length=50)),
                ("models_for", models.JSONField(blank=True, default=list, help_text="Names of the models that a ControlNet or a VAE is for.")),
                ("control_type", models.CharField(blank=True, help_text="Of a ControlNet: canny, depth ...", max_length=20)),
                ("parts", models.CharField(blank=True, help_text="Model here that brings what the file lacks.", max_length=200)),
                ("replace", models.BooleanField(default=False, help_text="The model of that name, if there is one.")),
                ("state", models.CharField(choices=[("asked", "waits"), ("running", "is being imported"), ("done", "imported"), ("failed", "failed")], default="asked", editable=False, max_length=8)),
                ("note", models.TextField(blank=True, editable=False)),
                ("at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={"ordering": ["-id"]},
        ),
    ]
