import django.db.models.deletion
from django.db import migrations, models

EARLIER = {"text2img", "img2img", "inpaint", "controlnet", "batch"}
NEW = ["upscale", "background"]


def allow(apps, schema_editor):
    """Plans that allow every kind that there was allow the new ones, too."""
    for plan in apps.get_model("generation", "Plan").objects.all():
        if EARLIER <= set(plan.kinds):
            plan.kinds = [*plan.kinds, *(kind for kind in NEW if kind not in plan.kinds)]
            plan.save(update_fields=["kinds"])


class Migration(migrations.Migration):
    """Tasks whose picture is only processed have no model."""

    dependencies = [("generation", "0015_vocabulary_of_mini")]
    operations = [
        migrations.AlterField(
            "task", "model",
            models.ForeignKey(blank=True, help_text="None for a picture that is only processed.", null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="generation.imagemodel"),
        ),
        migrations.AlterField(
            "task", "model_key",
            models.CharField(blank=True, help_text="name@revision that the task is bound to; empty where there is no model.", max_length=130),
        ),
        migrations.AlterField(
            "task", "batch_key",
            models.CharField(blank=True, help_text="What may share a forward pass.", max_length=160),
        ),
        migrations.RunPython(allow, migrations.RunPython.noop),
    ]
