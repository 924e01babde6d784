"""From a request's body to submissions: checked, what the client left out filled in from the model, the style and the
plan, its pictures fetched and brought to size, and the content policy asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from generation.accounts.models import ApiKey, Plan
from generation.accounts.plans import plan_of
from generation.admission import priority
from generation.api.bounds import texts
from generation.api.bounds.input_pictures import size_and_inputs
from generation.api.forms import RequestContext, parse, style_of
from generation.api.kind_forms import body_of, form_of
from generation.api.requests.respelling import Respelled, respelled
from generation.catalogue import prompts, snapshot
from generation.catalogue.kinds import Kind
from generation.catalogue.models import ImageModel, Style
from generation.catalogue.parameters import MAX_SEED, Parameters, new_seed
from generation.policy import rules, subjects
from generation.tasks import inputs
from generation.tasks.submit import Submission, surge_control
from imagegenx_site.errors import Fault, InvalidRequest
from postprocessing.recipe import Recipe
from postprocessing.watermark_text import unreadable


@dataclass(frozen=True)
class ParsedRequest:
    """What a request asks for: one submission, or one for each text of a batch.

    `batch_size`: how many tasks of a batch may share a forward pass, 0 for no limit; None for what is no batch.
    """

    submissions: tuple[Submission, ...]
    dry_run: bool = False
    batch_size: int | None = None


@dataclass(frozen=True)
class CheckedRequest:
    """A request that is right as far as it shows without its pictures; `values` are those of its form."""

    kind: Kind
    api_key: ApiKey
    values: Mapping[str, Any]
    asked: Respelled

    @property
    def has_pictures(self) -> bool:
        """Whether it brings any."""
        return any(name in self.values for name in self.kind.roles)

    @property
    def addresses(self) -> dict[str, str]:
        """The pictures that have to be fetched, by their fields."""
        given = {name: self.values[name] for name in self.kind.roles if name in self.values}
        return {name: url for name, picture in given.items() if (url := inputs.address_of(picture))}

    def parsed(self, fetched: Mapping[str, bytes]) -> ParsedRequest:
        """Everything decided, with the pictures. Raises InvalidRequest."""
        try:
            return self._parsed(fetched)
        except InvalidRequest as error:
            raise self.asked.as_sent(error) from error

    def _parsed(self, fetched: Mapping[str, bytes]) -> ParsedRequest:
        kind = self.kind
        pictures = {name: inputs.with_content(self.values[name], data) for name, data in fetched.items()}
        checked = {**self.values, **pictures}
        style = style_of(snapshot.current(), checked.get("params", {}))
        written = _texts(checked)
        first = _submission(checked, written[0], kind, style, self.api_key)
        first = replace(first, warnings=tuple(self.asked.warnings))
        rest = (_with_text(first, number, text, style, checked) for number, text in enumerate(written) if number)
        batch_size = checked.get("batch_size", 0) if kind.many_texts else None
        return ParsedRequest((first, *rest), bool(checked.get("dry_run")), batch_size)


def check_request(data: Any, *, kind: Kind, api_key: ApiKey, host: str = "") -> CheckedRequest:
    """Check a request but for its pictures. Raises InvalidRequest with every fault."""
    plan = plan_of(api_key)
    known = snapshot.current().usable_by(plan, api_key.user.team_id)
    context = RequestContext(kind.task_kind, api_key.user, plan, known, host)
    form = form_of(kind)
    asked = respelled(body_of(data), form, kind, known)
    try:
        checked = parse(asked.body, form, context, asked.faults)
        style = style_of(known, checked.get("params", {}))
        subject = subjects.of_request(checked, style, kind.task_kind)
        if found := texts.faults(subject) or rules.faults(api_key, subject):
            raise InvalidRequest(found)
    except InvalidRequest as error:
        raise asked.as_sent(error) from error
    return CheckedRequest(kind, api_key, checked, asked)


def _texts(checked: Mapping[str, Any]) -> Sequence[str]:
    written: Sequence[str] = checked.get("texts") or [checked["text"]]
    return written


def _submission(checked: Mapping[str, Any], text: str, kind: Kind, style: Style | None, api_key: ApiKey) -> Submission:
    plan = plan_of(api_key)
    params: Mapping[str, Any] = checked.get("params", {})
    model: ImageModel = checked["model"]
    control = surge_control(plan, model)
    sides, pictures = size_and_inputs(checked, kind, model, plan, control.fit)
    parameters = Parameters(
        kind=kind.task_kind,
        text=prompts.composed(text, prompts.words_of(style, model), params.get("style_keywords", ())),
        negative_text=prompts.composed_negative(params.get("negative_text", ""), prompts.words_of(style, model)),
        width=sides[0],
        height=sides[1],
        style=style.name if style else "",
        style_tone=style.tone if style else {},
        preview=params.get("preview", False),
        check_images=rules.must_check(api_key),
        lowered_from=control.lowered_from,
        **_sampling(params, model),
        **kind.own_parameters(params, model),
    )
    if faults := _watermark_faults(parameters, plan):
        raise InvalidRequest(faults)
    return Submission(
        parameters=parameters,
        model=model,
        text=text,
        priority=priority.choose(plan, checked.get("priority")),
        callback_url=checked.get("callback_url") or "",
        queue_seconds=min(plan.queue_seconds, checked.get("deadline_seconds") or plan.queue_seconds),
        inputs=pictures,
    )


def _watermark_faults(parameters: Parameters, plan: Plan) -> list[Fault]:
    """Texts that could not be read in the picture that is delivered first: the request's own, and the plan's."""
    recipe = Recipe.from_json(dict(parameters.postprocess)).first_version()
    scale = recipe.upscale.scale if recipe.upscale else 1
    size = parameters.width * scale, parameters.height * scale
    own, plans = recipe.watermarks, Recipe().marked(plan.watermark or {}).watermarks
    found = [
        Fault(f"params.postprocess.watermark[{number}].text", "too_long", reason)
        for number, reason in unreadable(own, *size).items()
    ]
    theirs = unreadable(plans, *size).values()
    return found + [Fault("params.resolution", "too_small", f"Your plan's watermark: {reason}") for reason in theirs]


def _sampling(params: Mapping[str, Any], model: ImageModel) -> dict[str, Any]:
    """The parameters that go from the request to the task as they are, with the model's defaults."""
    seed, sampler = params.get("seed", -1), params.get("sampler", "auto")
    found = {name: params[name] for name in ("num_images", "postprocess", "loras", "deterministic") if name in params}
    return {
        "steps": params.get("steps", model.default_steps),
        "cfg_scale": params.get("cfg_scale", model.default_cfg_scale),
        "sampler": model.default_sampler if sampler == "auto" else sampler,
        "seed": new_seed() if seed == -1 else seed,
        "cache": seed != -1 and params.get("cache", True),
        **found,
    }


def _with_text(
    first: Submission, number: int, text: str, style: Style | None, checked: Mapping[str, Any]
) -> Submission:
    """The submission of a batch's text number `number`."""
    before = first.parameters
    keywords = checked.get("params", {}).get("style_keywords", ())
    composed = prompts.composed(text, prompts.words_of(style, first.model), keywords)
    seed = (before.seed + number * before.num_images) % (MAX_SEED + 1)
    return replace(first, text=text, parameters=replace(before, text=composed, seed=seed))
