from django.db import migrations


def add(apps, schema_editor):
    """The shipped models know few words; a warning names those of a prompt that are none of them."""
    for model in apps.get_model("generation", "ImageModel").objects.filter(source="mini", family="sd15"):
        model.options = {"vocabulary": "vocabulary.json", **model.options}
        model.save(update_fields=["options"])


class Migration(migrations.Migration):
    dependencies = [("generation", "0014_model_presets")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
