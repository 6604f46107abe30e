"""A vision-language model that looks: each frame of a video is one token, read by a query that the model predicts.

Where the text has the frame token, the language model reads what a query saw of that frame. The query is predicted from
the hidden state of the token in front, so that where to look can depend on the question and on what was seen before.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_fvlm import FoveatedVLMConfig
from .reading_fvlm import Looks, Reader
from .vision_fvlm import FoveatedViT

MODES = ("coarse", "parallel", "stream")
# The cache's name in a call and in what it returns, by transformers' version.
_CACHE = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


@dataclass
class FoveatedOutput(CausalLMOutputWithPast):
    """The model's predictions for B rows of n tokens.

    Attributes:
        loss: cross-entropy of the labels, with labels.
        logits: [B, n, V], of the next token; the frame token's are the lowest there are.
        gaze: attention of the looks at T frames, for each layer float32 [B, T, heads, N], the tokens in front of the
            patches first; zero for a row with fewer frames. With ``output_gaze``.
    """

    gaze: tuple[torch.Tensor, ...] | None = None


class FoveatedVLMForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """The model, with a language model's head."""

    config_class = FoveatedVLMConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: FoveatedVLMConfig):
        super().__init__(config)
        vision, language = config.vision_config.hidden_size, config.text_config.hidden_size
        self.encoder = FoveatedViT(config.vision_config, config.query)
        self.language = AutoModelForCausalLM.from_config(config.text_config)
        self.static_query = nn.Parameter(torch.randn(vision))
        self.first_query = nn.Parameter(torch.randn(vision))
        self.predict = nn.Linear(language, vision, bias=False)
        self.enter = nn.Linear(vision, vision, bias=False)
        self.leave = nn.Linear(vision, vision)
        self.token = nn.Linear(vision, language)
        if config.mark_token_id is not None:
            self.coarse_mark, self.fine_mark = nn.Parameter(torch.randn(language)), nn.Parameter(torch.randn(language))
        if config.aim == "frames":
            self.no_text = nn.Parameter(torch.randn(language))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens."""
        return self.language.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of tokens."""
        self.language.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the output layer."""
        return self.language.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the output layer."""
        self.language.set_output_embeddings(value)

    def get_decoder(self) -> nn.Module:
        """Return the language model without its output layer."""
        return self.language.get_decoder()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        mode: str | None = None,
        logits_to_keep: int = 0,
        output_gaze: bool = False,
        **kwargs: Any,
    ) -> FoveatedOutput:
        """Predict the next token after each of n tokens of B rows.

        Args:
            input_ids: int64 [B, n], with the frame token where a frame is read. A row has one video, or none.
            attention_mask: [B, past + n], 1 where a token is real; padding stands in front.
            pixel_values_videos: [B, T, 3, H, W], normalised. A row with fewer frame tokens has fewer frames, the first
                ones. A single frame (T = 1) is a picture: all frame tokens of a row look at it.
            labels: int64 [B, n], the row's own tokens where they are learnt, -100 elsewhere.
            mode: how frames are read, unlike the configuration says.
            logits_to_keep: only the last logits; 0 for all.
            output_gaze: also return where was looked.
            kwargs: ``past_key_values`` or ``cache``, ``use_cache``, and ``position_ids``, as of any language model.
        """
        if kwargs.get("inputs_embeds") is not None:
            raise ValueError("frames are read where the frame token stands: give input_ids, and not inputs_embeds")
        mode = self.config.mode if mode is None else mode
        if mode not in MODES:
            raise ValueError(f"no mode {mode!r}: choose {', '.join(MODES)}")
        cache = kwargs.get("past_key_values") if kwargs.get("cache") is None else kwargs["cache"]
        use_cache = kwargs.get("use_cache")
        use_cache = getattr(self.config.text_config, "use_cache", True) if use_cache is None else use_cache
        cache = DynamicCache() if cache is None and use_cache else cache
        shape = (input_ids.shape[0], input_ids.shape[1])
        reader = Reader(self.get_decoder(), shape, cache, attention_mask, kwargs.get("position_ids"))
        frames = input_ids == self.config.frame_token_id
        looks = Looks(self, frames, pixel_values_videos, reader) if bool(frames.any()) else None
        if looks is None:
            hidden = reader.read(self.get_input_embeddings()(input_ids))
        elif mode == "stream" and self.config.aim == "text":
            hidden = self._stream(input_ids, looks)
        else:
            tokens = self._stream_alone(looks) if mode == "stream" else self._at_once(input_ids, looks, mode)
            text = self._text(input_ids, "coarse" if mode == "coarse" else "fine")
            hidden = reader.read(text.index_put((looks.rows, looks.columns), tokens))
        logits = self.get_output_embeddings()(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        for token in (self.config.frame_token_id, self.config.mark_token_id):
            if token is not None:
                logits[..., token] = torch.finfo(logits.dtype).min
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=logits.shape[-1],
                num_items_in_batch=kwargs.get("num_items_in_batch"),
            )  # fmt: skip
        gaze = looks.gaze() if output_gaze and looks is not None else None
        return FoveatedOutput(loss=loss, logits=logits, gaze=gaze, **{_CACHE: cache if use_cache else None})

    def _text(self, input_ids: torch.Tensor, kind: str) -> torch.Tensor:
        """Return the embeddings [B, n, W] of tokens. The mark in front of the frames says which pass reads them.

        Args:
            input_ids: the tokens.
            kind: of the pass, ``coarse`` or ``fine``.
        """
        text = self.get_input_embeddings()(input_ids)
        if self.config.mark_token_id is None:
            return text
        mark = (self.coarse_mark if kind == "coarse" else self.fine_mark).to(text.dtype)
        return torch.where((input_ids == self.config.mark_token_id)[..., None], mark, text)

    def _stream(self, input_ids: torch.Tensor, looks: Looks) -> torch.Tensor:
        """Read frame after frame, each with the query that the token in front predicts.

        Returns:
            Hidden states [B, n, W].
        """
        text, reader = self._text(input_ids, "fine"), looks.reader
        reader.keep()
        done: list[torch.Tensor] = []
        waiting, start = text[:, :0], 0  # embeddings that are not read so far
        for column in looks.columns.unique().tolist():
            which = (looks.columns == column).nonzero().flatten()
            rows = looks.rows[which]
            waiting = torch.cat([waiting, text[:, start:column]], 1)
            if waiting.shape[1]:
                done.append(reader.read(waiting))
            query = looks.query(which, done[-1][rows, -1] if done else None)
            waiting = text[:, column].index_put((rows,), looks.tokens(which, query))[:, None]
            start = column + 1
        done.append(reader.read(torch.cat([waiting, text[:, start:]], 1)))
        return torch.cat(done, 1)

    def _stream_alone(self, looks: Looks) -> torch.Tensor:
        """Look at frame after frame, with queries that are predicted from the frames alone.

        Returns:
            Visual tokens [m, W].
        """
        front = self._front(looks, "fine")
        reader = Reader(self.get_decoder(), (looks.count, front.shape[1] + looks.most), DynamicCache())
        hidden, tokens = reader.read(front)[:, -1], front.new_zeros(len(looks.rows), front.shape[-1])
        for number in range(looks.most):
            which = (looks.numbers == number).nonzero().flatten()
            rows = looks.rows[which]
            found = looks.tokens(which, looks.query(which, hidden[rows]))
            tokens = tokens.index_put((which,), found)
            # Rows whose frames have ended read nothing more that anybody sees.
            hidden = reader.read(torch.zeros_like(hidden).index_put((rows,), found)[:, None])[:, -1]
        return tokens

    def _at_once(self, input_ids: torch.Tensor, looks: Looks, mode: str) -> torch.Tensor:
        """Look at all frames at once, in ``parallel`` with the queries that an earlier pass predicts.

        Returns:
            Visual tokens [m, W].
        """
        every = torch.arange(len(looks.rows), device=input_ids.device)
        queries, kind = self.static_query.expand(len(every), -1), "coarse"
        for _ in range(self.config.iterations if mode == "parallel" else 0):
            tokens = looks.tokens(every, queries, keep=False)
            if self.config.aim == "frames":
                front = self._front(looks, kind)
                width, before = front.shape[1], front.shape[1] - 1 + looks.numbers
                draft = torch.cat([front, front.new_zeros(looks.count, looks.most, front.shape[-1])], 1)
                draft = draft.index_put((looks.rows, width + looks.numbers), tokens)
                hidden = Reader(self.get_decoder(), (looks.count, draft.shape[1])).draft(draft)
            else:
                end, before = int(looks.columns.max()) + 1, (looks.columns - 1).clamp(min=0)
                draft = self._text(input_ids, kind)[:, :end].index_put((looks.rows, looks.columns), tokens)
                hidden = looks.reader.draft(draft)
            queries, kind = looks.query(every, hidden[looks.rows, before]), "fine"
        return looks.tokens(every, queries)

    def _front(self, looks: Looks, kind: str) -> torch.Tensor:
        """Return what stands in front of the frames where queries are predicted from these alone, [B, 2, W]."""
        mark = self.coarse_mark if kind == "coarse" else self.fine_mark
        embeddings: Any = self.get_input_embeddings()
        return torch.stack([self.no_text, mark]).to(embeddings.weight.dtype).expand(looks.count, -1, -1)
