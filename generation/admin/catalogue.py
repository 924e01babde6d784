"""Models, the presets that they are made of, and styles."""

from typing import Any, ClassVar, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget

from generation.admin import model_memory, model_trial
from generation.admin.base import HelpTextAdmin, StaffAdmin
from generation.catalogue import model_rules, samplers, snapshot
from generation.catalogue.kinds import model_kinds
from generation.catalogue.models import ImageModel, ModelPreset, Style
from generation.catalogue.presets import registry, requested
from generation.catalogue.presets.hub import PullError
from generation.catalogue.presets.memory import human, largest_bytes, weights_bytes
from imagegenx_site.errors import Busy

_OF_REMOTE: Final = ("family", "source", "options")


class CatalogueAdmin(HelpTextAdmin):
    """A change applies in this process at once, in the others within seconds."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        snapshot.reload()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        snapshot.reload()


class ModelForm(forms.ModelForm):
    """What can be chosen is chosen; the rest is checked by the row itself (ImageModel.clean)."""

    by_superuser = False
    family = forms.ChoiceField(
        choices=[(name, f"{name}: {', '.join(kinds)}") for name, kinds in model_rules.FAMILIES.items()],
        widget=UnfoldAdminSelectWidget,
        help_text="Which class loads it, and what that can do.",
    )
    kinds = forms.MultipleChoiceField(
        choices=[(kind, kind) for kind in model_kinds()],
        widget=forms.CheckboxSelectMultiple,
        help_text="What clients may ask this model for.",
    )
    default_sampler = forms.ChoiceField(
        choices=[(name, name) for name in samplers.NAMES], widget=UnfoldAdminSelectWidget
    )

    class Meta:
        model = ImageModel
        fields = "__all__"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.earlier = self.instance.fingerprint if self.instance.pk else ""
        """What the row had workers load before this form."""
        self.place = {name: getattr(self.instance, name) for name in _OF_REMOTE}
        """Where it was. `initial` and `changed_data` go by hidden fields, which the browser sends."""

    def clean(self) -> dict[str, Any]:
        """Workers send the key of a remote model to its address: who could change either would read keys."""
        values: dict[str, Any] = super().clean() or {}
        place = {name: values.get(name) for name in _OF_REMOTE}
        remote = model_rules.REMOTE in (place["family"], self.place["family"])
        if remote and not self.by_superuser and place != self.place:
            raise ValidationError("Where a remote model is, and which key it gets, is a superuser's to change.")
        return values


@admin.register(ImageModel)
class ImageModelAdmin(CatalogueAdmin):
    """A new or changed model is tried at once by a task of its own, so that no customer is the first to find out."""

    form = ModelForm
    list_display = (
        "name", "title", "family", "revision", "precision", "enabled", "position", "fallback", "loading", "in_memory",
    )  # fmt: skip
    list_filter = ("family", "enabled")
    search_fields = ("name", "title")
    filter_horizontal = ("plans", "teams")
    readonly_fields = ("loading", "tried_at", "problem", "in_memory", "memory")
    actions = ("try_it",)
    help_texts: ClassVar = {
        "source": "A folder in diffusers' format below MODELS_DIR. `manage.py models pull` and `import` make such "
        "folders, and their rows: docs/models.md.",
    }

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.by_superuser = bool(request.user.is_superuser)  # a class of this request's own
        return form

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        model: ImageModel = form.instance
        if model.enabled and model.fingerprint != form.earlier:
            self._try(request, model)

    @admin.display(description="loaded?")
    def loading(self, model: ImageModel) -> str:
        if model.loads is None:
            return "not loaded yet"
        return "loaded" if model.loads else f"failed: {model.problem[:200]}"

    @admin.display(description="in memory of")
    def in_memory(self, model: ImageModel) -> str:
        return model_memory.places(model)

    @admin.display(description="memory of its weights")
    def memory(self, model: ImageModel) -> str:
        return model_memory.needs(model)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """To load and unload on each worker that lives, beside those of the class."""
        found: dict[str, Any] = super().get_actions(request)
        if self.has_change_permission(request):
            found |= model_memory.actions()
        return found

    @admin.action(description="Try it: a worker loads it and makes a picture", permissions=["change"])
    def try_it(self, request: HttpRequest, queryset: QuerySet[ImageModel]) -> None:
        for model in queryset:
            self._try(request, model)

    def _try(self, request: HttpRequest, model: ImageModel) -> None:
        try:
            task = model_trial.try_model(model, request.user)  # type: ignore[arg-type]  # who is here is signed in
        except Busy as error:
            self.message_user(request, f"{model.name} is not tried: {error}", messages.WARNING)
            return
        self.message_user(request, f"{model.name} is being tried by task {task.id}; this list says what came of it.")


@admin.register(ModelPreset)
class ModelPresetAdmin(StaffAdmin):
    """`manage.py models pull NAME` makes a model of one. Superusers add and change rows, which say what this machine
    fetches and from where; other staff pull them.
    """

    list_display = ("name", "title", "kind", "download", "memory", "licence", "must_accept", "gated", "state")
    list_filter = ("kind", "must_accept", "gated")
    search_fields = ("name", "title", "repository")
    readonly_fields = ("state",)
    actions = ("pull", "pull_accepting")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        every = [field.name for field in ModelPreset._meta.fields if field.editable]
        return self.readonly_fields if request.user.is_superuser else (*self.readonly_fields, *every)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    @admin.action(description="Pull", permissions=["change"])
    def pull(self, request: HttpRequest, queryset: QuerySet[ModelPreset]) -> None:
        self._ask(request, queryset, licence_accepted=False)

    @admin.action(description="Pull (I have read and accept the licence)", permissions=["change"])
    def pull_accepting(self, request: HttpRequest, queryset: QuerySet[ModelPreset]) -> None:
        self._ask(request, queryset, licence_accepted=True)

    def _ask(self, request: HttpRequest, queryset: QuerySet[ModelPreset], *, licence_accepted: bool) -> None:
        for preset in queryset:
            try:
                requested.ask(preset.name, licence_accepted=licence_accepted)
            except PullError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"{preset.name} will be pulled; this list says how far it is.")

    @admin.display(description="download (computed)")
    def download(self, preset: ModelPreset) -> str:
        count = sum(preset.parameters.values()) * preset.bytes_per_weight
        return human(count) if count else ""

    @admin.display(description="weights in bf16, with offload (computed)")
    def memory(self, preset: ModelPreset) -> str:
        loaded = registry.loaded_weights(preset)
        return ", ".join(human(size(loaded, "bf16")) for size in (weights_bytes, largest_bytes)) if loaded else ""

    @admin.display(description="here?")
    def state(self, preset: ModelPreset) -> str:
        if preset.unusable:
            return "not usable yet"
        if preset.pull_state:
            return f"{preset.get_pull_state_display()}: {preset.pull_note}"
        return "here" if ImageModel.objects.filter(name=preset.name).exists() else f"models pull {preset.name}"


@admin.register(Style)
class StyleAdmin(CatalogueAdmin):
    list_display = ("name", "title", "title_zh", "prompt", "child_safe", "enabled", "position")
    list_filter = ("enabled", "child_safe")
    list_editable = ("enabled", "position")
    search_fields = ("name", "title", "title_zh", "prompt")
