"""The routes, read from the google.api.http options of the RPCs: they are written nowhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor


@dataclass(frozen=True, slots=True)
class Route:
    """One RPC behind one HTTP method and path. `body` tells whether the JSON body is the request message;
    `response_field` names the field that is answered in place of the whole response, if one does."""

    rpc: str
    http_method: str
    template: str
    pattern: re.Pattern[str]
    request: Descriptor
    response: Descriptor
    body: bool
    response_field: str | None

    @property
    def bound_fields(self) -> Collection[str]:
        """The fields of the request that no query parameter can set."""
        return [field.name for field in self.request.fields] if self.body else list(self.pattern.groupindex)


class Routes:
    """Finds the route of a path and method."""

    def __init__(self, service: ServiceDescriptor) -> None:
        self._routes = list(_routes(service))
        self._exact: dict[str, dict[str, tuple[Route, Mapping[str, str]]]] = {}
        self._patterns: list[Route] = []
        for route in self._routes:
            if "{" in route.template:
                self._patterns.append(route)
            else:
                self._exact.setdefault(route.template, {})[route.http_method] = (route, {})

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def template(self, rpc: str) -> str:
        """Returns the path template of an RPC."""
        return next(route.template for route in self._routes if route.rpc == rpc)

    def find(self, path: str) -> Mapping[str, tuple[Route, Mapping[str, str]]]:
        """Returns, by HTTP method, the routes at a percent-encoded path and the variables in it."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        found = {}
        for route in self._patterns:
            match = route.pattern.fullmatch(path)
            if match is not None:
                variables = {name: unquote(value) for name, value in match.groupdict().items()}
                found[route.http_method] = (route, variables)
        return found


def answered(route: Route) -> Descriptor:
    """Returns the type of the message that the body of an answer is."""
    if route.response_field is None:
        return route.response
    content = route.response.fields_by_name[route.response_field].message_type
    if content is None:
        raise NotImplementedError(f"the response body of {route.rpc} is no message")
    return content


def basic_view(request: Descriptor) -> int | None:
    """Returns the number of the view that answers with little, where a request has one (AIP-157)."""
    view = request.fields_by_name.get("view")
    if view is None or view.enum_type is None:
        return None
    return view.enum_type.values_by_name["BASIC"].number


def _routes(service: ServiceDescriptor) -> Iterator[Route]:
    for method in service.methods:
        options = method.GetOptions()
        if options.HasExtension(annotations_pb2.http):
            yield _route(method, options.Extensions[annotations_pb2.http])


def _route(method: MethodDescriptor, rule: http_pb2.HttpRule) -> Route:
    kind = rule.WhichOneof("pattern")
    template: str = getattr(rule, kind)
    if kind == "custom" or rule.additional_bindings or rule.body not in {"", "*"}:
        raise NotImplementedError(f"the google.api.http option of {method.full_name} is of a kind not served")
    return Route(
        rpc=method.name,
        http_method=kind.upper(),
        template=template,
        pattern=re.compile("".join(_pattern(part) for part in re.split(r"(\{\w+\})", template))),
        request=method.input_type,
        response=method.output_type,
        body=rule.body == "*",
        response_field=rule.response_body or None,
    )


def _pattern(part: str) -> str:
    return f"(?P<{part[1:-1]}>[^/:]+)" if part.startswith("{") else re.escape(part)
