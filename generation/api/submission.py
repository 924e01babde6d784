"""From a request's body to submissions: checked, what the client left out filled in from the model, the style and the
plan, its pictures fetched and brought to size, and the content policy asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings

from generation.accounts import plans
from generation.accounts.models import ApiKey, Plan
from generation.accounts.plans import plan_of
from generation.admission import priority
from generation.api.bounds import texts, translation
from generation.api.bounds.input_pictures import PIXELS, size_and_inputs, whole_picture
from generation.api.bounds.translation import Translated
from generation.api.forms import RequestContext, parse, style_of
from generation.api.kind_forms import SEVERAL, body_of, form_of
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
    """What a request asks for: one submission, or one for each text or picture of a batch.

    `batch_size`: how many tasks of a batch may share a forward pass, 0 for no limit; None for what is no batch.
    """

    submissions: tuple[Submission, ...]
    dry_run: bool = False
    batch_size: int | None = None


@dataclass(frozen=True)
class CheckedRequest:
    """A request that is right as far as it shows without its pictures; `values` are those of its form, `original` what
    they were before texts in them were translated.
    """

    kind: Kind
    api_key: ApiKey
    values: Mapping[str, Any]
    asked: Respelled
    original: Mapping[str, Any] | None = None

    @property
    def has_pictures(self) -> bool:
        """Whether it brings any."""
        return bool(self.pictures)

    @property
    def pictures(self) -> dict[str, inputs.Given]:
        """By their fields."""
        found = {name: self.values[name] for name in self.kind.roles if name in self.values}
        if SEVERAL in self.values:
            del found["image"]
            found |= {f"{SEVERAL}[{number}]": one for number, one in enumerate(self.values[SEVERAL])}
        return found

    @property
    def addresses(self) -> dict[str, str]:
        """The pictures that have to be fetched, by their fields."""
        return {name: url for name, picture in self.pictures.items() if (url := inputs.address_of(picture))}

    @property
    def unread(self) -> tuple[str, ...]:
        """Texts in languages that the model does not read, where there is a translator."""
        return translation.unread_texts(self.values)

    def parsed(self, fetched: Mapping[str, bytes], translated: Translated = Translated()) -> ParsedRequest:  # noqa: B008
        """Everything decided, with the pictures and in the model's language. Raises InvalidRequest."""
        try:
            return self._translated(translated)._parsed(fetched)
        except InvalidRequest as error:
            raise self.asked.as_sent(error) from error

    def _translated(self, translated: Translated) -> "CheckedRequest":
        """With the texts that the model reads, once the policy has looked at them, too. Raises InvalidRequest."""
        if translated.warning:
            self.asked.warnings.append(translated.warning)
        if not translated.texts:
            return self
        values = translation.with_texts(self.values, translated.texts)
        style = style_of(snapshot.current(), values.get("params", {}))
        subject = subjects.of_request(values, style, self.kind.task_kind)
        if found := texts.faults(subject) or rules.faults(self.api_key, subject):
            raise InvalidRequest(found)
        return replace(self, values=values, original=self.values)

    def _parsed(self, fetched: Mapping[str, bytes]) -> ParsedRequest:
        parsed = self._decided(fetched)
        if self.original is None:
            return parsed
        written, negative = _texts(self.original), self.original.get("params", {}).get("negative_text", "")
        written = written if len(written) == len(parsed.submissions) else list(written) * len(parsed.submissions)
        now = self.values.get("params", {}).get("negative_text", "")
        read = now if now != negative else ""
        made = (_of_original(one, text, read) for one, text in zip(parsed.submissions, written, strict=True))
        return replace(parsed, submissions=tuple(made))

    def _decided(self, fetched: Mapping[str, bytes]) -> ParsedRequest:
        kind = self.kind
        given = self.pictures
        given |= {name: inputs.with_content(given[name], data) for name, data in fetched.items()}
        checked = {**self.values, **given}
        dry_run, warnings = bool(checked.get("dry_run")), tuple(self.asked.warnings)
        if SEVERAL in self.values:
            return ParsedRequest(tuple(self._of_each_picture(checked, warnings)), dry_run, batch_size=0)
        style = style_of(snapshot.current(), checked.get("params", {}))
        written = _texts(checked)
        first = replace(_submission(checked, written[0], kind, style, self.api_key), warnings=warnings)
        rest = (_with_text(first, number, text, style, checked) for number, text in enumerate(written) if number)
        batch_size = checked.get("batch_size", 0) if kind.many_texts else None
        return ParsedRequest((first, *rest), dry_run, batch_size)

    def _of_each_picture(self, checked: Mapping[str, Any], warnings: tuple[str, ...]) -> Iterator[Submission]:
        """Picture number i has the seed `seed + i * num_images`, as text number i of a batch has. Together they have no
        more pixels than one picture may have: all of them are in memory.
        """
        style = style_of(snapshot.current(), checked.get("params", {}))
        left, seed = settings.MAX_INPUT_PIXELS, None
        for number in range(len(self.values[SEVERAL])):
            field = f"{SEVERAL}[{number}]"
            try:
                one = {**checked, "image": checked[field], PIXELS: left}
                made = _submission(one, _texts(checked)[0], self.kind, style, self.api_key)
            except InvalidRequest as error:
                names = {"image": field}
                faults = [Fault(names.get(one.field, one.field), one.code, one.message) for one in error.faults]
                raise InvalidRequest(faults) from error
            asked = made.parameters
            left -= asked.width * asked.height
            seed = asked.seed if seed is None else seed
            own = (seed + number * asked.num_images) % (MAX_SEED + 1)
            yield replace(made, parameters=replace(asked, seed=own), warnings=warnings)


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


def _of_original(made: Submission, text: str, negative: str) -> Submission:
    """The submission of a translated text, with the text as the client wrote it beside what the model reads."""
    read = made.text if made.text != text else ""
    parameters = replace(made.parameters, translated_text=read, translated_negative_text=negative)
    return replace(made, text=text, parameters=parameters)


def _texts(checked: Mapping[str, Any]) -> Sequence[str]:
    written: Sequence[str] = checked.get("texts") or [checked.get("text", "")]
    return written


def _submission(checked: Mapping[str, Any], text: str, kind: Kind, style: Style | None, api_key: ApiKey) -> Submission:
    plan = plan_of(api_key)
    parameters, pictures = (_drawn if kind.needs_model else _processed)(checked, text, kind, style, api_key)
    if faults := _watermark_faults(parameters, plan):
        raise InvalidRequest(faults)
    return Submission(
        parameters=parameters,
        model=checked["model"],
        text=text,
        priority=priority.choose(plan, checked.get("priority")),
        callback_url=checked.get("callback_url") or "",
        queue_seconds=min(plan.queue_seconds, checked.get("deadline_seconds") or plan.queue_seconds),
        inputs=pictures,
    )


Decided = tuple[Parameters, tuple[inputs.InputPicture, ...]]


def _processed(checked: Mapping[str, Any], _: str, kind: Kind, style: Style | None, api_key: ApiKey) -> Decided:
    """Of a picture that is only processed: it keeps its size."""
    block: Mapping[str, Any] = checked["params"]["postprocess"]
    sides, pictures = whole_picture(checked)
    scale = (block.get("upscale") or {}).get("scale", 1)
    if faults := plans.faults(plan_of(api_key), finished=plans.enlarged(sides, scale)):
        raise InvalidRequest(faults)
    nothing: Any = {"text": "", "negative_text": "", "cfg_scale": 1.0, "sampler": "", "seed": 0}
    width, height = sides
    found = Parameters(kind.task_kind, width=width, height=height, steps=1, postprocess=block, **nothing)
    return replace(found, check_images=rules.must_check(api_key)), pictures


def _drawn(checked: Mapping[str, Any], text: str, kind: Kind, style: Style | None, api_key: ApiKey) -> Decided:
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
    return parameters, pictures


def _watermark_faults(parameters: Parameters, plan: Plan) -> list[Fault]:
    """Texts that could not be read in the picture that is delivered first: the request's own, and the plan's."""
    recipe = Recipe.from_json(dict(parameters.postprocess)).first_version()
    scale = recipe.upscale.scale if recipe.upscale else 1
    size = parameters.width * scale, parameters.height * scale
    own, of_plan = recipe.watermarks, Recipe().marked(plan.watermark or {}).watermarks
    found = [
        Fault(f"params.postprocess.watermark[{number}].text", "too_long", reason)
        for number, reason in unreadable(own, *size).items()
    ]
    theirs = unreadable(of_plan, *size).values()
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
    words = prompts.words_of(style, first.model) if first.model else None
    composed = prompts.composed(text, words, keywords)
    seed = (before.seed + number * before.num_images) % (MAX_SEED + 1)
    return replace(first, text=text, parameters=replace(before, text=composed, seed=seed))
