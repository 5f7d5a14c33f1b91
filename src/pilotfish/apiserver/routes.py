"""HTTP requests for objects: from URL, query and body to `resources`, and back."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pilotfish.api.errors import ApiError, BadRequest, Expired, MethodNotAllowed, NotFound
from pilotfish.api.scheme import AnyKind
from pilotfish.apiserver import discovery, failures, openapi, params
from pilotfish.apiserver.content import JSON, Representation, representation
from pilotfish.apiserver.params import ContinueToken
from pilotfish.apiserver.patch import APPLY_PATCH
from pilotfish.apiserver.requestinfo import RequestInfo, parse_path
from pilotfish.apiserver.resources import Change, Resources, WriteOptions, Written
from pilotfish.apiserver.responses import json_response
from pilotfish.apiserver.reviews import Review, find_review
from pilotfish.apiserver.selection import Selection, select
from pilotfish.apiserver.subresources import scale_of, scaled
from pilotfish.apiserver.table import represent, represent_bookmark, represent_list
from pilotfish.apiserver.watch import INITIAL_EVENTS_END, WatchOptions

_WATCH_SECONDS = (1800, 3600)
"""How long a watch lasts that asks for no timeout; the spread keeps clients from coming back all at once."""


@dataclass(frozen=True, eq=False)
class Api:
    """The objects of one API server over HTTP."""

    resources: Resources

    async def core_versions(self, request: Request) -> Response:
        """/api"""
        scheme = self.resources.scheme
        if form := discovery.aggregated_form(request.headers.get("accept", "")):
            return json_response(discovery.aggregated(scheme, core=True, form=form), media_type=form)
        return json_response(discovery.api_versions(request.url.netloc))

    async def groups(self, request: Request) -> Response:
        """/apis"""
        scheme = self.resources.scheme
        if form := discovery.aggregated_form(request.headers.get("accept", "")):
            return json_response(discovery.aggregated(scheme, core=False, form=form), media_type=form)
        return json_response(discovery.api_group_list(scheme))

    async def openapi_index(self, request: Request) -> Response:
        """/openapi/v3"""
        return json_response(openapi.index(self.resources.scheme))

    async def openapi(self, request: Request) -> Response:
        """/openapi/v3/api/{version} and /openapi/v3/apis/{group}/{version}"""
        group, version = request.path_params.get("group", ""), request.path_params["version"]
        document = openapi.document(self.resources.scheme, group, version)
        if document is None:
            raise not_served(request)
        return json_response(document)

    async def handle(self, request: Request) -> Response:
        """Any request below /api/{version} and /apis/{group}."""
        info = parse_path(request.url.path)
        if info is None:
            raise not_served(request)
        if not info.resource:
            return self._discovery(request, info)
        if review := find_review(info.group, info.version, info.resource):
            return await _answer_review(request, review)
        kind = self.resources.scheme.by_plural(info.group, info.version, info.resource)
        if kind is None or (info.subresource and info.subresource not in kind.subresources):
            raise not_served(request)
        if not kind.namespaced and info.namespace:
            raise not_served(request)
        return await _Call(self.resources, request, kind, info).dispatch()

    def _discovery(self, request: Request, info: RequestInfo) -> Response:
        scheme = self.resources.scheme
        if info.version:
            document = discovery.api_resource_list(scheme, info.group, info.version)
        else:
            document = discovery.api_group(scheme, info.group)
        if document is None:
            raise not_served(request)
        return json_response(document)


def not_served(request: Request) -> ApiError:
    """The error for a URL behind which there is nothing (kubectl knows this text)."""
    return NotFound("the server could not find the requested resource", details={"path": request.url.path})


async def _answer_review(request: Request, review: Review) -> Response:
    if request.method != "POST":
        raise MethodNotAllowed(f"{review.kind} can only be created")
    asked, options = await params.sent_document(request)
    return json_response(review.answer(options.user, asked, review.api_version), 201)


@dataclass(frozen=True, slots=True)
class _Call:
    """One request for objects of one kind."""

    resources: Resources
    request: Request
    kind: AnyKind
    info: RequestInfo

    async def dispatch(self) -> Response:
        handler = self._handler()
        if handler is None:
            raise MethodNotAllowed("the server does not allow this method on the requested resource")
        return await handler()

    def _handler(self) -> Callable[[], Coroutine[Any, Any, Response]] | None:
        method, info = self.request.method, self.info
        if info.subresource == "scale":
            return {"GET": self._get_scale, "PUT": self._update_scale, "PATCH": self._patch_scale}.get(method)
        if info.name and not info.watch:
            handlers = {"GET": self._get, "PUT": self._update, "PATCH": self._patch}
            if not info.subresource:
                handlers["DELETE"] = self._delete
            return handlers.get(method)
        if method == "GET":
            return self._watch if info.watch or params.flag(self.request, "watch") else self._list
        return {"POST": self._create, "DELETE": self._delete_collection}.get(method)

    # Reading

    async def _get(self) -> Response:
        form = self._representation()
        stored = self.resources.get(self.kind, self.info.namespace, self.info.name)
        return self._object(stored.body, form)

    async def _list(self) -> Response:
        form, selection = self._representation(), self._selection()
        limit, token = (
            params.number(self.request, "limit"),
            ContinueToken.decode(params.query(self.request, "continue")),
        )
        store = self.resources.store
        revision = token.revision if token else store.revision
        items = store.list(self.kind.resource, self._namespace)
        if token:
            items = [item for item in items if (item.key.namespace, item.key.name) > (token.namespace, token.name)]
        if selection:
            items = [item for item in items if selection(item.body)]
        about: dict[str, Any] = {"resourceVersion": str(revision)}
        if limit and len(items) > limit:
            last = items[limit - 1].key
            about["continue"] = ContinueToken(revision, last.namespace, last.name).encode()
            if not selection:
                about["remainingItemCount"] = len(items) - limit
            items = items[:limit]
        bodies = [item.body for item in items]
        return json_response(represent_list(self.kind, self.info.version, bodies, form, about))

    async def _watch(self) -> Response:
        form = self._representation()
        fields = params.query(self.request, "fieldSelector")
        if self.info.name:
            fields = ",".join(filter(None, (fields, f"metadata.name={self.info.name}")))
        timeout = params.number(self.request, "timeoutSeconds")
        options = WatchOptions(
            resource=self.kind.resource,
            namespace=self._namespace,
            resource_version=params.query(self.request, "resourceVersion"),
            selection=select(params.query(self.request, "labelSelector"), fields),
            bookmarks=params.flag(self.request, "allowWatchBookmarks"),
            send_initial_events=params.flag(self.request, "sendInitialEvents"),
            timeout=float(timeout or random.randint(*_WATCH_SECONDS)),
        )
        return StreamingResponse(self._frames(options, form), media_type=JSON)

    async def _frames(self, options: WatchOptions, form: Representation) -> AsyncIterator[bytes]:
        """The lines of a watch. An error that it meets is its last event, as the answer has begun by then."""
        kind, version = self.kind, self.info.version
        try:
            async for change in self.resources.watches.changes(options):
                if change.stored is None:
                    about: dict[str, Any] = {"resourceVersion": str(change.revision)}
                    if change.initial_end:
                        about["annotations"] = {INITIAL_EVENTS_END: "true"}
                    body = represent_bookmark(kind, version, form, about)
                else:
                    body = represent(kind, version, change.stored.body, form)
                yield b'{"type":"%s","object":%s}\n' % (change.type.encode(), body)
        except (Expired, BadRequest) as error:
            yield b'{"type":"ERROR","object":%s}\n' % msgspec.json.encode(error.status())

    # Writing

    async def _create(self) -> Response:
        form = self._representation()
        document, options = await params.sent_document(self.request)
        written = await self.resources.create(self.kind, self._write_namespace(), document, options)
        return self._written(written, form)

    async def _update(self) -> Response:
        form = self._representation()
        document, options = await params.sent_document(self.request)
        return self._written(await self._change(lambda _: document, options), form)

    async def _patch(self) -> Response:
        form = self._representation()
        if params.patch_type_of(self.request) == APPLY_PATCH:
            info = self.info
            config, options = await params.sent_configuration(self.request)
            written = await self.resources.apply(
                self.kind, info.namespace, info.name, config, options, subresource=info.subresource
            )
            return self._written(written, form)
        change, options = await params.sent_patch(self.request, self.kind)
        return self._written(await self._change(change, options), form)

    async def _change(self, change: Change, options: WriteOptions) -> Written:
        info = self.info
        return await self.resources.update(
            self.kind, info.namespace, info.name, change, options, subresource=info.subresource
        )

    async def _get_scale(self) -> Response:
        stored = self.resources.get(self.kind, self.info.namespace, self.info.name)
        return json_response(scale_of(msgspec.json.decode(stored.body)))

    async def _update_scale(self) -> Response:
        scale, options = await params.sent_document(self.request)
        return await self._scale(lambda document: scaled(document, scale), options)

    async def _patch_scale(self) -> Response:
        change, options = await params.sent_patch(self.request, self.kind)
        return await self._scale(lambda document: scaled(document, change(scale_of(document))), options)

    async def _scale(self, change: Change, options: WriteOptions) -> Response:
        written = await self.resources.update(self.kind, self.info.namespace, self.info.name, change, options)
        return json_response(scale_of(msgspec.json.decode(written.body)), warnings=written.warnings)

    async def _delete(self) -> Response:
        delete, options = await params.delete_options(self.request)
        deleted = await self.resources.delete(self.kind, self.info.namespace, self.info.name, delete, options)
        if not deleted.removed:
            return self._object(deleted.body, Representation())
        return json_response(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": failures.details(self.kind, self.info.name, deleted.uid),
            }
        )

    async def _delete_collection(self) -> Response:
        delete, options = await params.delete_options(self.request)
        selection = self._selection()
        chosen = self.resources.store.list(self.kind.resource, self._namespace)
        if selection:
            chosen = [stored for stored in chosen if selection(stored.body)]
        deleted = await self.resources.delete_collection(self.kind, chosen, delete, options)
        about = {"resourceVersion": str(self.resources.store.revision)}
        bodies = [d.body for d in deleted]
        return json_response(represent_list(self.kind, self.info.version, bodies, Representation(), about))

    def _representation(self) -> Representation:
        return representation(self.request.headers.get("accept", ""), params.query(self.request, "includeObject"))

    def _selection(self) -> Selection | None:
        return select(params.query(self.request, "labelSelector"), params.query(self.request, "fieldSelector"))

    @property
    def _namespace(self) -> str | None:
        return self.info.namespace or None

    def _write_namespace(self) -> str:
        if self.info.namespace or not self.kind.namespaced:
            return self.info.namespace
        raise BadRequest(f"name the namespace in the URL: …/namespaces/{{namespace}}/{self.kind.plural}")

    def _object(self, body: bytes, form: Representation) -> Response:
        return json_response(represent(self.kind, self.info.version, body, form))

    def _written(self, written: Written, form: Representation) -> Response:
        body = represent(self.kind, self.info.version, written.body, form)
        return json_response(body, 201 if written.created else 200, warnings=written.warnings)
