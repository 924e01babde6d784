import django.db.models.deletion
import django.utils.timezone
import imagegenx_site.ids
from django.conf import settings
from django.db import migrations, models

from generation.tasks.partitions import CreatePartitionedModel


class Migration(migrations.Migration):
    """The tables that grow, partitioned by day (generation/tasks/partitions.py)."""

    dependencies = [
        ('generation', '0001_initial'),
    ]

    operations = [
        CreatePartitionedModel(
            name='Task',
            fields=[
                ('id', models.UUIDField(default=imagegenx_site.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=20)),
                ('status', models.CharField(choices=[('queued', 'Queued'), ('running', 'Running'), ('generated', 'Generated'), ('processed', 'Processed'), ('stored', 'Stored'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('expired', 'Expired')], default='queued', max_length=10)),
                ('priority', models.PositiveSmallIntegerField(default=2, help_text='0 (P0, urgent) to 3 (P3, test).')),
                ('model_key', models.CharField(help_text='name@revision that the task is bound to.', max_length=130)),
                ('style', models.CharField(blank=True, max_length=50)),
                ('text', models.TextField(help_text='The prompt as the client gave it.')),
                ('params', models.JSONField(help_text='generation.catalogue.parameters.Parameters, with its schema version.')),
                ('width', models.PositiveIntegerField()),
                ('height', models.PositiveIntegerField()),
                ('batch_key', models.CharField(help_text='What may share a forward pass.', max_length=160)),
                ('cost', models.FloatField(default=0, help_text='Megapixel-steps: the weight in fair sharing and quotas.')),
                ('progress', models.PositiveSmallIntegerField(default=0, help_text='0 to 100.')),
                ('warnings', models.JSONField(blank=True, default=list)),
                ('callback_url', models.CharField(blank=True, max_length=2000)),
                ('cancel_requested', models.BooleanField(default=False)),
                ('error_code', models.CharField(blank=True, max_length=50)),
                ('error_message', models.CharField(blank=True, max_length=1000)),
                ('attempt', models.PositiveSmallIntegerField(default=0, help_text='Claims so far: the fence of the present one.')),
                ('worker', models.CharField(blank=True, max_length=100)),
                ('stage_owner', models.CharField(blank=True, help_text='Who holds the present CPU or IO stage.', max_length=100)),
                ('stage_until', models.DateTimeField(blank=True, help_text='End of that lease, or earliest next try.', null=True)),
                ('stage_attempts', models.PositiveSmallIntegerField(default=0)),
                ('history', models.JSONField(blank=True, default=list, help_text='Every move: time, state, attempt, worker, reason.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('expires_at', models.DateTimeField(help_text='Not claimed by then: expired.')),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('generated_at', models.DateTimeField(blank=True, null=True)),
                ('stored_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('updated_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('api_key', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='generation.apikey')),
                ('batch', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='tasks', to='generation.batch')),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='generation.imagemodel')),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='tasks', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-id'],
            },
        ),
        CreatePartitionedModel(
            name='Image',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('index', models.PositiveSmallIntegerField()),
                ('seed', models.BigIntegerField()),
                ('key', models.CharField(help_text='Object key of the original.', max_length=300)),
                ('thumbnail_key', models.CharField(blank=True, max_length=300)),
                ('format', models.CharField(max_length=8)),
                ('content_type', models.CharField(max_length=30)),
                ('width', models.PositiveIntegerField()),
                ('height', models.PositiveIntegerField()),
                ('bytes', models.PositiveBigIntegerField()),
                ('sha256', models.CharField(max_length=64)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('task', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='images', to='generation.task')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        CreatePartitionedModel(
            name='Delivery',
            fields=[
                ('id', models.UUIDField(default=imagegenx_site.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('event_id', models.CharField(help_text='The webhook-id header: the same at every attempt.', max_length=64)),
                ('event_type', models.CharField(max_length=40)),
                ('url', models.CharField(max_length=2000)),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('delivered', 'Delivered'), ('given_up', 'Given Up')], default='pending', max_length=10)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('next_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('response_status', models.PositiveSmallIntegerField(blank=True, null=True)),
                ('log', models.JSONField(blank=True, default=list, help_text='Time, status and fault of each attempt.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ('delivered_at', models.DateTimeField(blank=True, null=True)),
                ('task', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='generation.task')),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='generation.webhookendpoint')),
            ],
            options={
                'verbose_name_plural': 'deliveries',
                'ordering': ['-id'],
            },
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(fields=['user', '-id'], name='task_user'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('status__in', ('queued', 'running', 'generated', 'processed', 'stored'))), fields=['status', 'id'], name='task_open'),
        ),
        migrations.AddIndex(
            model_name='task',
            index=models.Index(condition=models.Q(('batch__isnull', False)), fields=['batch'], name='task_batch'),
        ),
        migrations.AddIndex(
            model_name='image',
            index=models.Index(fields=['task', 'index'], name='image_task'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('state', 'pending')), fields=['next_at'], name='delivery_due'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(fields=['task'], name='delivery_task'),
        ),
    ]
