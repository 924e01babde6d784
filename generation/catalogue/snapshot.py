"""The models and styles that a request can name, read once and kept for a few seconds.

An admin's change is seen by every process within KEPT_S; submissions cost no catalogue queries meanwhile.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from generation.accounts.models import Plan
from generation.catalogue.models import ImageModel, Style
from imagegenx_site.ttl import TtlValue

KEPT_S: Final = 2.0
_PREFERRED: Final = {True: 0, None: 1, False: 2}


@dataclass(frozen=True)
class Catalogue:
    """The enabled models and styles at one moment, by every name they answer to."""

    models: tuple[ImageModel, ...]
    styles: tuple[Style, ...]
    only_for: Mapping[int, tuple[frozenset[int], frozenset[int]]] = field(default_factory=dict)
    """Of models that not everybody may use: the plans and the teams that may, by the model's id."""

    def model(self, name: str) -> ImageModel | None:
        """The model of that name or alias."""
        wanted = name.lower()
        by_name = (model for model in self.models if model.name.lower() == wanted)
        by_alias = (model for model in self.models if wanted in (alias.lower() for alias in model.aliases))
        return next(by_name, None) or next(by_alias, None)

    def default_model(self, kind: str) -> ImageModel | None:
        """The first model, in the admin's order, that can do the kind and that a worker has loaded as it is now; before
        any was, the first that none has failed to load. So a broken row at the top serves nobody.
        """
        able = [model for model in self.models if kind in model.kinds]
        return min(able, key=lambda model: _PREFERRED[model.loads], default=None)

    def usable_by(self, plan: Plan, team_id: int | None) -> "Catalogue":
        """What a key of that plan and team may name."""
        if not self.only_for:
            return self
        return replace(self, models=tuple(model for model in self.models if self._may_use(model.pk, plan.pk, team_id)))

    def _may_use(self, model_id: int, plan_id: int, team_id: int | None) -> bool:
        plans, teams = self.only_for.get(model_id, (frozenset((plan_id,)), frozenset()))
        return plan_id in plans or team_id in teams

    def style(self, name: str) -> Style | None:
        """The style of that name."""
        return next((style for style in self.styles if style.name == name), None)

    def style_named(self, text: str) -> Style | None:
        """The style of that name or title, in any case and with whatever spaces; Chinese titles also with a last 风 or
        风格.
        """
        wanted = _folded(text)
        found = (style for style in self.styles if wanted in map(_folded, (style.name, style.title, style.title_zh)))
        return self.style(text) or (next(found, None) if wanted else None)

    def model_names(self) -> list[str]:
        """Names of the enabled models."""
        return [model.name for model in self.models]

    def style_names(self) -> list[str]:
        """Names of the enabled styles."""
        return [style.name for style in self.styles]


def _folded(text: str) -> str:
    return re.sub(r"[\W_]", "", text.casefold()).removesuffix("格").removesuffix("风")


def _read() -> Catalogue:
    models = tuple(ImageModel.objects.filter(enabled=True).prefetch_related("plans", "teams"))
    only_for = {
        model.pk: (frozenset(plan.pk for plan in model.plans.all()), frozenset(team.pk for team in model.teams.all()))
        for model in models
    }
    restricted = {key: allowed for key, allowed in only_for.items() if any(allowed)}
    return Catalogue(models, tuple(Style.objects.filter(enabled=True)), restricted)


_catalogue = TtlValue(_read, KEPT_S)


def current() -> Catalogue:
    """The catalogue, KEPT_S old at most."""
    return _catalogue.get()


def reload() -> None:
    """Read it anew at the next request (after a change in this process)."""
    _catalogue.drop()
