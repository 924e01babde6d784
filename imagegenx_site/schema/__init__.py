"""What a JSON value may be: a `Field` reads a value, notes every fault with its path, and shows itself as JSON Schema.

    RECIPE = Object({"sharpen": Number(0.0, 2.0), "format": Choice(("webp", "png"))})
    faults: list[Fault] = []
    values = RECIPE.read({"sharpen": 1}, "postprocess", faults)   # {"sharpen": 1.0}

`null` for a field of an object is the same as leaving it out; defaults are those of the value that is built.
"""

from imagegenx_site.schema.shapes import List, Object, OneOrList, Pair, Rule, Tagged, WordOr, tagged
from imagegenx_site.schema.values import COMPONENT, Boolean, Choice, Color, Field, Integer, Number, Schema, Text

__all__ = [
    "COMPONENT",
    "Boolean",
    "Choice",
    "Color",
    "Field",
    "Integer",
    "List",
    "Number",
    "Object",
    "OneOrList",
    "Pair",
    "Rule",
    "Schema",
    "Tagged",
    "Text",
    "WordOr",
    "tagged",
]
