"""Reading: plain data becomes a pydantic model, or PlanInvalid with every error in it.

A plan, a group and a command are each a `Section`: a model whose fields are the keys. pydantic checks each key by its
type; `Section` adds the rules that all mappings share, and `resolved` the rules between keys.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from loadgen.protocol import plain_yaml
from routing.errors import Code, ErrorCollector, FieldError, InvalidInput, Place, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = plain_yaml.MAX_DEPTH
WHOLE = "plan"  # the path of an error that belongs to no key
# The types of pydantic errors that are made here: one for each code, and one that counts those beyond MAX_ERRORS.
_OWN = "galileo_"
_LEFT_OUT = f"{_OWN}left_out"

AnySection = TypeVar("AnySection", bound="Section")


class PlanInvalid(InvalidInput):
    """A plan, a group or a command is refused; nothing was created."""


def whole_invalid(message: str, code: Code = Code.UNREADABLE) -> PlanInvalid:
    """The error of a document that is wrong as a whole."""
    return PlanInvalid.of(WHOLE, code, message)


def refused(code: Code, message: str) -> PydanticCustomError:
    """The error that a validator raises for a value."""
    return PydanticCustomError(_OWN + code.value, message)


class PlanErrors(ErrorCollector):
    """Collects the errors of a value while it is read; their places are relative to the value."""

    def take(self, place: Place, error: ValidationError) -> None:
        """Adds the errors of a part that lies at `place`."""
        for line in error.errors(include_url=False):
            if line["type"] == _LEFT_OUT:
                self.leave_out(line["ctx"]["number"])
            else:
                self.add((*place, *line["loc"]), *_described(line))

    def has(self, key: str) -> bool:
        """Whether there is an error at a key, or below it."""
        return any(place[:1] == (key,) for place, _, _ in self.found)

    def raise_in_model(self) -> None:
        """Raises the errors, if any, as pydantic's, which adds the path of the value."""
        if not self.found:
            return
        errors = [
            InitErrorDetails(type=refused(code, message), loc=(place,) if isinstance(place, str) else place, input=None)
            for place, code, message in self.found
        ]
        if beyond := len(self) - len(self.found):
            left_out = PydanticCustomError(_LEFT_OUT, "more errors were left out", {"number": beyond})
            errors.append(InitErrorDetails(type=left_out, loc=(), input=None))
        raise ValidationError.from_exception_data("plan", errors)

    def invalid(self) -> PlanInvalid:
        """The errors as the application's."""
        return PlanInvalid([FieldError(each.path or WHOLE, each.code, each.message) for each in self.errors])


# pydantic's own errors: the code, and the wording with what pydantic tells about the value's bounds.
_MESSAGES = {
    "missing": (Code.REQUIRED, "is missing"),
    "int_type": (Code.TYPE, "must be a whole number, got {got}"),
    "float_type": (Code.TYPE, "must be a number, got {got}"),
    "finite_number": (Code.RANGE, "must be a finite number, got {got}"),
    "bool_type": (Code.TYPE, "must be true or false, got {got}"),
    "string_type": (Code.TYPE, "must be a string, got {got}"),
    "list_type": (Code.TYPE, "must be a list, got {got}"),
    "greater_than_equal": (Code.RANGE, "must be at least {ge:,}, got {got}"),
    "less_than_equal": (Code.RANGE, "must be at most {le:,}, got {got}"),
    "literal_error": (Code.CHOICE, "must be {expected}, got {got}"),
}


def _described(line: Any) -> tuple[Code, str]:
    """The code and the message of one of pydantic's errors."""
    if line["type"].startswith(_OWN):
        return Code(line["type"].removeprefix(_OWN)), line["msg"]
    code, message = _MESSAGES.get(line["type"], (Code.TYPE, f"{line['msg']}, got {{got}}"))
    return code, message.format(got=shown(line["input"]), **line.get("ctx", {}))


@dataclass
class Context:
    """Facts from sections that were read earlier, for those that are read later.

    Attributes:
        parts: the sections read so far, by their model; those with errors hold defaults in place of wrong values.
    """

    parts: dict[type[Section], list[Section]] = field(default_factory=dict)
    valid: list[dict[str, Any]] = field(default_factory=list)  # the valid fields of the sections that are being read

    def parts_of(self, model: type[AnySection]) -> list[AnySection]:
        return self.parts.get(model, [])  # type: ignore[return-value]


class Section(BaseModel):
    """A mapping. Unknown keys are refused with the nearest known one, and a key without a value counts as absent."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", serialize_by_alias=True)
    keeps_null: ClassVar[frozenset[str]] = frozenset()  # keys for which null is a wrong value, and not an absent one

    @classmethod
    @cache
    def key_names(cls) -> tuple[str, ...]:
        """The keys, in the order of the fields."""
        return tuple(each.alias or name for name, each in cls.model_fields.items())

    def resolved(self, given: dict[str, Any], errors: PlanErrors, context: Any) -> Self:
        """Checks the rules between keys; returns the section with what follows from other sections.

        Called even where single values are wrong, so that all errors are found at once; they have their defaults then,
        and a missing key that is required is None.

        Args:
            given: the keys that have a value, with the data as it came.
        """
        return self

    def left_out(self) -> set[str]:
        """The keys that the normalised form does not have, as they have no effect."""
        return set()

    def to_dict(self) -> dict[str, Any]:
        """The section as normalised JSON; reading that gives the same section again."""
        return self.model_dump()

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        context = info.context
        if not isinstance(context, Context):  # made by a program, not read
            return handler(data)
        errors = PlanErrors()
        if not isinstance(data, dict):
            errors.add((), Code.TYPE, f"must be a mapping, got {shown(data)}")
            context.parts.setdefault(cls, []).append(cls._of_valid({}))
            errors.raise_in_model()
            return handler(data)
        given = {
            key: data[key]
            for key in cls.key_names()
            if data.get(key) is not None or (key in cls.keeps_null and key in data)
        }
        context.valid.append({})
        try:
            section = handler(given)
        except ValidationError as error:
            errors.take((), error)
            section = cls._of_valid(context.valid[-1])
        finally:
            context.valid.pop()
        section = section.resolved(given, errors, context)
        context.parts.setdefault(cls, []).append(section)
        for key in data:
            if key not in cls.key_names():
                errors.add((key if isinstance(key, str) else shown(key),), Code.UNKNOWN, cls._unknown(key))
        errors.raise_in_model()
        return section

    @field_validator("*", mode="after")
    @classmethod
    def _note_valid(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(info.context, Context) and info.field_name:
            info.context.valid[-1][info.field_name] = value
        return value

    @classmethod
    def _of_valid(cls, valid: dict[str, Any]) -> Self:
        required = dict.fromkeys(name for name, each in cls.model_fields.items() if each.is_required())
        return cls.model_construct(**(required | valid))  # type: ignore[return-value]

    @classmethod
    def _unknown(cls, key: object) -> str:
        near = difflib.get_close_matches(key[:60], cls.key_names(), n=1) if isinstance(key, str) else []
        hint = f"did you mean {near[0]!r}?" if near else f"the known keys are {', '.join(cls.key_names())}"
        return f"unknown key; {hint}"

    @model_serializer(mode="wrap")
    def _dump(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = handler(self)
        return {key: value for key, value in dumped.items() if key not in self.left_out()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As pydantic's, but a key that is not required may also be null."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for key, each in schema.get("properties", {}).items():
            if key not in schema.get("required", ()):
                schema["properties"][key] = _nullable(each)
        return schema


def _nullable(schema: JsonSchemaValue) -> JsonSchemaValue:
    null = {"type": "null"}
    if null in schema.get("anyOf", []):
        return schema
    about: JsonSchemaValue = {name: schema[name] for name in ("description", "default") if name in schema}
    return {"anyOf": [{name: each for name, each in schema.items() if name not in about}, null], **about}


class _Untitled(GenerateJsonSchema):
    """pydantic's JSON schema without titles, which repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(model: type[Section]) -> dict[str, Any]:
    """The model's JSON schema, with every definition in its place."""
    schema = model.model_json_schema(schema_generator=_Untitled)
    definitions = schema.pop("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        if reference := part.get("$ref"):
            part = definitions[reference.rpartition("/")[2]] | {key: part[key] for key in part if key != "$ref"}
        return {key: inlined(each) for key, each in part.items() if not (key == "title" and isinstance(each, str))}

    found: dict[str, Any] = inlined(schema)
    return found


def read(model: type[AnySection], data: object, context: Context | None = None) -> AnySection:
    """The model's section of plain data.

    Raises:
        PlanInvalid: with every error, each with its path.
    """
    errors = PlanErrors()
    try:
        return model.model_validate(data, context=context or Context())
    except ValidationError as error:
        errors.take((), error)
    raise errors.invalid()


def load_yaml(text: bytes) -> dict[str, Any]:
    """The plain data of a plan file.

    Raises:
        PlanInvalid: the file is empty, too large, not valid YAML, or not a mapping.
    """
    try:
        data = plain_yaml.load(text, MAX_BYTES)
    except plain_yaml.YamlInvalid as error:
        raise whole_invalid(str(error)) from error
    if data is None:
        raise whole_invalid("the file is empty; it must be a mapping with `configuration`", Code.REQUIRED)
    if not isinstance(data, dict):
        raise whole_invalid(f"must be a mapping with `configuration`, got {shown(data)}", Code.TYPE)
    return data
