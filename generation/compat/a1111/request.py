"""A request of txt2img or img2img as one of ours. Nothing that would change the picture is left out silently: it is
refused with a sentence, or stands in the notes of the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from generation.catalogue.kinds import Kind, of_pictures
from generation.catalogue.snapshot import Catalogue
from generation.compat.a1111 import controlnet, form, hires
from imagegenx_site.errors import Fault, InvalidRequest

_NO_EFFECT: Final = {  # fields that change A1111's picture -> why they do not change ours
    "restore_faces": "there is no face restoration",
    "tiling": "pictures do not tile",
    "inpaint_full_res": "the whole picture is worked on, not the masked part enlarged",
    "refiner_checkpoint": "there is no refiner",
}


@dataclass(frozen=True)
class SdapiRequest:
    """Our request, its kind, and what of theirs was not done as it was written."""

    kind: Kind
    body: dict[str, Any]
    notes: tuple[str, ...]


def wanted(asked: Mapping[str, Any], catalogue: Catalogue, chosen: str, *, from_pictures: bool) -> SdapiRequest:
    """`chosen`: the model that the caller has set by `options`. Raises InvalidRequest."""
    _refuse_variations(asked)
    unit = controlnet.unit_of(asked.get("alwayson_scripts"))
    masked = from_pictures and bool(asked.get("mask"))
    kind = of_pictures(("image", "mask") if masked else ("image",) if from_pictures else ())
    kind = of_pictures(("control",)) if unit else kind
    body = form.request_body(asked, catalogue, kind.name, chosen)
    if from_pictures:
        body = form.with_pictures(asked, body)
    ignored = {name: why for name, why in _NO_EFFECT.items() if asked.get(name) and (masked or "paint" not in name)}
    notes = [f"{name}: {why}." for name, why in ignored.items()]
    if unit and "images" in body:
        message = "Send one picture with ControlNet; several take a request each."
        raise InvalidRequest([Fault("init_images", "out_of_range", message)])
    if unit:
        body["control_image"] = unit.image or body.get("image", "")
        body["params"] |= unit.params
        notes += unit.notes
    if enlarged := None if from_pictures else hires.upscale(asked):
        body["params"]["postprocess"]["upscale"] = enlarged
        notes.append(hires.NOTE)
    return SdapiRequest(kind, body, tuple(notes))


def _refuse_variations(asked: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for what can't be had, and would give another picture than the caller expects."""
    faults = []
    if form.number(asked, "subseed_strength", 0) > 0:
        faults.append(Fault("subseed_strength", "not_available", "There are no variation seeds here; send 0."))
    if form.whole(asked, "seed_resize_from_w", 0) > 0 or form.whole(asked, "seed_resize_from_h", 0) > 0:
        faults.append(Fault("seed_resize_from_w", "not_available", "A seed can't be resized here; send 0."))
    if script := form.text(asked, "script_name"):
        faults.append(Fault("script_name", "not_available", f"There is no script {script[:60]} here."))
    if faults:
        raise InvalidRequest(faults)
