"""The Python faces of a model: LLM (in this process) and AsyncLLM, and EngineHandle, what a server is given.

Puts the text plane (tokenizer, template) in front of an engine. How an engine is built is in `octavo/wiring.py`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from octavo.base.config import EngineArgs, engine_args_of
from octavo.base.errors import InvalidRequestError, OctavoError
from octavo.base.outputs import RequestOutput
from octavo.base.progress import progress_bar
from octavo.base.prompts import Conversation, Prompts, as_prompt, as_prompt_list, one_each
from octavo.base.sampling import SamplingParams
from octavo.base.types import Delta, EngineStats, ModelInfo, Request
from octavo.engine.client import InlineClient
from octavo.engine.frontend import Frontend
from octavo.engine.process import ChildClient
from octavo.engine.spawn import Spawned, spawn
from octavo.engine_main import COMMAND
from octavo.text.model_text import ModelText
from octavo.text.tokenizer import Tokenizer
from octavo.weights.hub import find_files

# ---------------------------------------------------------------- the engine behind a server


class EngineHandle:
    """An engine in a process of its own, with its text plane here: implements `octavo.base.types.AsyncEngine`.

    `start` returns at once; `wait_ready` blocks until the model is loaded (and raises what loading raised).
    """

    def __init__(self, args: EngineArgs, client: ChildClient, text: ModelText) -> None:
        self._args = args
        self._client = client
        self._frontend: Frontend | None = None
        self._info: ModelInfo | None = None
        self.text = text

    @classmethod
    def start(cls, args: EngineArgs, spawned: Spawned | None = None) -> EngineHandle:
        """Loads a model whose files are here or can be fetched, in `spawned` or in a process that is started now."""
        spawned = spawned or spawn(COMMAND)
        try:
            files = find_files(args)
        except BaseException:
            spawned.abandon()
            raise
        local = replace(
            args, model=str(files.path), revision=None, served_model_name=args.served_model_name or args.model
        )
        client = ChildClient(spawned, local)
        try:
            return cls(args, client, ModelText(args, files))
        except BaseException:
            client.shut()
            raise

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """
        Raises:
            OctavoError: what loading raised in the process.
        """
        ready = self._client.wait_ready(timeout_s)
        self._info = ready.info
        self._frontend = Frontend(
            self._client,
            self.text.tokenizer,
            ready.limits,
            eos_token_ids=sorted(self.text.tokenizer.eos_token_ids),
            seed=self._args.seed,
        )

    @property
    def frontend(self) -> Frontend:
        assert self._frontend is not None, "wait_ready comes first"
        return self._frontend

    @property
    def info(self) -> ModelInfo:
        assert self._info is not None, "wait_ready comes first"
        return self._info

    @property
    def notes(self) -> Sequence[str]:
        """What the memory plan wants a user to know."""
        return tuple(self.info.details.get("notes", ()))

    @property
    def alive(self) -> bool:
        return self.frontend.alive

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return self.text.encode(text, add_special_tokens=add_special_tokens, limit=self.info.max_model_len)

    def decode(self, token_ids: Sequence[int]) -> str:
        return self.text.tokenizer.decode(token_ids, skip_special_tokens=False)

    def token_text(self, token_id: int) -> str:
        return self.text.tokenizer.token_text(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return self.text.tokenizer.token_bytes(token_id)

    @property
    def special_token_ids(self) -> frozenset[int]:
        return self.text.tokenizer.special_ids

    def encode_spans(self, text: str, *, add_special_tokens: bool = True) -> list[tuple[int, int, int]]:
        return self.text.tokenizer.encode_spans(text, add_special_tokens=add_special_tokens)

    def chat_template_source(self, *, tools: bool = False) -> str:
        return self.text.template_source(tools=tools)

    def render_chat_text(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        return self.text.render(messages, tools=tools)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        prompt = self.text.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=variables,
        )
        return self.text.encode_rendered(prompt, limit=self.info.max_model_len)

    def generate(
        self,
        prompt: str | Sequence[int],
        sampling: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str | None = None,
        marks: Sequence[str] = (),
    ) -> AsyncIterator[Delta]:
        ids = self.encode(prompt) if isinstance(prompt, str) else prompt
        return self.frontend.generate(
            ids, sampling, request_id=request_id, priority=priority, cache_salt=cache_salt, marks=marks
        )

    def default_sampling(self) -> Mapping[str, Any]:
        return self.text.defaults

    async def stats(self) -> EngineStats:
        return await self.frontend.stats()

    async def close(self) -> None:
        await self.frontend.close()

    def stop(self) -> None:
        """Ends the process, from outside of an event loop; doing it twice is nothing."""
        self._client.shut()


# ---------------------------------------------------------------- Python faces


class LLM:
    """A model in this process, with vLLM's interface: lists of prompts in, RequestOutputs out.

    Args:
        model: a folder, a GGUF file, an https URL of one, or `org/name[:QUANT][@revision]`; the demo model if left out.
        engine_args: all options at once, instead of single keywords.
        options: any field of `EngineArgs` by keyword; unknown ones are refused by name.

    Raises:
        ConfigError, MemoryPlanError, ModelError: before anything is computed.
    """

    def __init__(self, model: str | None = None, *, engine_args: EngineArgs | None = None, **options: Any) -> None:
        args = engine_args_of(model, engine_args, options)
        files = find_files(args)
        self.text = ModelText(args, files)
        from octavo.wiring import build_core  # a server's own process never needs it

        core, self.info = build_core(args)
        self._client = InlineClient(core)
        self._lock = threading.Lock()
        self._frontend = Frontend(
            self._client,
            self.text.tokenizer,
            core.limits,
            eos_token_ids=sorted(self.text.tokenizer.eos_token_ids),
            max_logprobs=-1,
            seed=args.seed,
        )

    def generate(
        self,
        prompts: Prompts,
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        priority: Sequence[int] | None = None,
    ) -> list[RequestOutput]:
        """Completes prompts; the outputs are in the prompts' order.

        Args:
            prompts: a text, token ids, a `{"prompt": ...}` or `{"prompt_token_ids": ...}`, or a list of these.
            sampling_params: one for all, or one for each; the model's own defaults if left out.
            use_tqdm: show a progress bar.

        Raises:
            InvalidRequestError: a prompt or a control that cannot be served; nothing has been computed then.
        """
        asked = [as_prompt(p) for p in as_prompt_list(prompts)]
        limit = self.info.max_model_len
        ids = [p if isinstance(p, list) else self.text.encode(p, limit=limit) for p in asked]
        texts = [p if isinstance(p, str) else None for p in asked]
        return self._run(texts, ids, sampling_params, use_tqdm=use_tqdm, priority=priority)

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[RequestOutput]:
        """Answers one conversation or several, each a list of messages with `role` and `content`."""
        one = not messages or isinstance(messages, str) or isinstance(messages[0], Mapping)
        conversations = [messages] if one else messages
        texts = [
            self.text.render(
                conversation,  # type: ignore[arg-type]
                tools=tools,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables=chat_template_kwargs,
            )
            for conversation in conversations
        ]
        ids = [self.text.encode_rendered(text, limit=self.info.max_model_len) for text in texts]
        return self._run(list(texts), ids, sampling_params, use_tqdm=use_tqdm, priority=None)

    def stream_chat(self, messages: Conversation, sampling_params: SamplingParams) -> Generator[str, None, None]:
        """The pieces of one answer's text as they come. Closing the iterator ends the answer.

        Raises:
            InvalidRequestError: while another answer of this LLM is being made; see also `generate`.
        """
        ids = self.text.encode_rendered(self.text.render(messages))
        request = self._frontend.prepare(ids, sampling_params.clone(n=1))
        with contextlib.closing(self._deltas([request])) as deltas:
            for delta in deltas:
                if delta.finish_reason == "error":
                    raise OctavoError(delta.error or "The engine failed on this request.")
                if delta.text:
                    yield delta.text

    def get_chat_template(self) -> Callable[[Conversation], str]:
        """A function that renders messages to the prompt the model sees."""
        self.text.template()  # a model without one says so here
        return self.text.render

    def get_tokenizer(self) -> Tokenizer:
        return self.text.tokenizer

    def get_default_sampling_fields(self) -> dict[str, Any]:
        """The model's recommended sampling, by SamplingParams field."""
        return dict(self.text.defaults)

    def get_default_sampling_params(self) -> SamplingParams:
        return SamplingParams(**self.text.defaults)

    def close(self) -> None:
        """Frees the model. Using it afterwards is an error."""
        self._client.shut()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self,
        texts: Sequence[str | None],
        ids: Sequence[Sequence[int]],
        sampling: SamplingParams | Sequence[SamplingParams] | None,
        *,
        use_tqdm: bool,
        priority: Sequence[int] | None,
    ) -> list[RequestOutput]:
        if sampling is None:
            sampling = self.get_default_sampling_params()
        controls = one_each("sampling_params", sampling, len(ids))
        for params in controls:
            if not isinstance(params, SamplingParams):
                raise InvalidRequestError(
                    f"sampling_params must be SamplingParams, got a {type(params).__name__}.", param="sampling_params"
                )
        priorities = one_each("priority", 0 if priority is None else priority, len(ids))
        requests = [
            self._frontend.prepare(prompt, params, priority=rank)
            for prompt, params, rank in zip(ids, controls, priorities, strict=True)
        ]
        outputs = [RequestOutput.for_request(request, text) for request, text in zip(requests, texts, strict=True)]
        by_id = {output.request_id: output for output in outputs}
        with (
            progress_bar(len(outputs), shown=use_tqdm) as advance,
            contextlib.closing(self._deltas(requests)) as deltas,
        ):
            for delta in deltas:
                output = by_id[delta.request_id]
                output.add(delta, self.text.shown)
                if output.finished:
                    advance(output)
        return outputs

    def _deltas(self, requests: Sequence[Request]) -> Generator[Delta, None, None]:
        """What comes of the requests, which are ended in whatever way this ends: an interrupt leaves nothing open."""
        if not self._lock.acquire(blocking=False):
            raise InvalidRequestError(
                "This LLM is making another answer. Finish or close that first, or use AsyncLLM for many at once."
            )
        try:
            for request in requests:
                self._frontend.open(request)
            yield from self._frontend.run()
        finally:
            for request in requests:
                self._frontend.abort(request.request_id)
            self._lock.release()


class AsyncLLM:
    """A model in a process of its own, with vLLM's asynchronous interface: requests stream concurrently."""

    def __init__(self, model: str | None = None, *, engine_args: EngineArgs | None = None, **options: Any) -> None:
        self.engine = EngineHandle.start(engine_args_of(model, engine_args, options))
        try:
            self.engine.wait_ready()
        except BaseException:
            self.engine.stop()
            raise

    @classmethod
    def from_engine_args(cls, engine_args: EngineArgs) -> AsyncLLM:
        return cls(engine_args=engine_args)

    async def generate(
        self,
        prompt: str | Sequence[int] | Mapping[str, Any],
        sampling_params: SamplingParams | None = None,
        request_id: str | None = None,
        *,
        priority: int = 0,
    ) -> AsyncIterator[RequestOutput]:
        """The request's output so far, each time there is more of it. Closing the iterator aborts the request."""
        asked = as_prompt(prompt)
        ids = asked if isinstance(asked, list) else self.engine.encode(asked)
        sampling = sampling_params or SamplingParams(**self.engine.default_sampling())
        text = asked if isinstance(asked, str) else None
        output: RequestOutput | None = None
        deltas = self.engine.generate(ids, sampling, request_id=request_id, priority=priority)
        async with contextlib.aclosing(deltas):  # type: ignore[type-var]
            async for delta in deltas:
                output = output or RequestOutput.blank(delta.request_id, text, ids, sampling.n)
                output.add(delta, self.engine.text.shown)
                yield output.snapshot()

    def get_tokenizer(self) -> Tokenizer:
        return self.engine.text.tokenizer

    def get_chat_template(self) -> Callable[[Conversation], str]:
        self.engine.text.template()
        return self.engine.text.render

    async def abort(self, request_id: str) -> None:
        """Ends a request: its outputs end with the finish reason "abort". An unknown one is nothing to do."""
        self.engine.frontend.cancel(request_id)

    def shutdown(self) -> None:
        """Ends the engine's process."""
        self.engine.stop()
