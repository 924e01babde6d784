from django.db import migrations


def add(apps, schema_editor):
    """The shipped models read English and Chinese; others of their family read English alone."""
    for model in apps.get_model("generation", "ImageModel").objects.filter(source="mini", family="sd15"):
        model.options = {"languages": ["en", "zh"], **model.options}
        model.save(update_fields=["options"])


class Migration(migrations.Migration):
    dependencies = [("generation", "0010_operating")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
