"""The training section: the method, its coefficients, the optimiser, the guards."""

from __future__ import annotations

from string import Formatter
from typing import Literal, Self

from pydantic import Field, model_validator

from tspin.config.evaluation import ExtractorName
from tspin.config.strict import Strict

__all__ = ["SUPERVISED", "GuardConfig", "LoraConfig", "Method", "TrainConfig"]

Method = Literal[
    "tspin", "tspin_no_history", "tspin_all", "tspin_ref", "spin", "space", "sdft", "rft", "sft"
]

SUPERVISED = ("rft", "sft")
"""Methods whose loss is the likelihood of single responses, token by token."""


_DEMONSTRATED = (
    "{prompt}\n\nThis is an example for a response to the question:\n{demonstration}\n\n"
    "Now answer with a response of your own, including the thinking process."
)


class LoraConfig(Strict):
    """Low-rank adapters instead of full fine-tuning."""

    r: int = Field(16, gt=0)
    """Rank of each pair of matrices."""
    alpha: int = Field(32, gt=0)
    """The adapter's output is scaled by alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the adapter's inputs that is dropped in training."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get one, as in peft; all-linear are all but the output head."""


class GuardConfig(Strict):
    """Past these thresholds training warns: preference metrics look perfect as a model breaks."""

    annotated_logps_drop: float = Field(0.2, gt=0)
    """Fall of logp(y) per token below its value at the start of the iteration, in nats."""
    saturated_share: float = Field(0.9, gt=0, le=1)
    """Share of samples whose loss no longer gives a gradient."""
    saturated_gradient: float = Field(0.01, gt=0, lt=1)
    """|l'(z)| under which a sample counts as saturated (logistic: margins over 4.6 nats)."""
    length_drift: float = Field(3.0, gt=1)
    """Mean length of y' over that of y, or the reverse."""
    sampled_drop: float = Field(0.1, gt=0, le=1)
    """Fall of sampled exactness on held-out records below an earlier policy's as greedy holds."""


class TrainConfig(Strict):
    """One iteration of training; lists give one value an iteration, the last one stays."""

    method: Method = "tspin"
    """The objective (docs/reference/papers.md); sft trains on the annotations alone, rft on these
    and on the policy's own right answers."""
    alpha: float = Field(1.0, gt=0)
    """Entropy-regularisation coefficient."""
    beta: float = Field(0.1, ge=0)
    """Weight of the historical advantage; iteration 0 always uses 0."""
    link: Literal["logistic", "exponential"] = "logistic"
    """The decreasing function l of the advantages: -log sigmoid(z), or exp(-z). space and sdft have
    none."""
    spin_lambda: float | tuple[float, ...] = 0.1
    """Only for method spin."""
    noise_ratio: float = Field(1.0, gt=0)
    """Only for method space: its paper's mu, how often a synthetic response counts."""
    rft_extractor: ExtractorName | None = None
    """Only for method rft, which needs it: a response is right where this extractor (as in
    `evaluate.extractors`) finds the annotated answer in it."""
    rft_cap: int | None = Field(None, gt=0)
    """Only for method rft: right responses to a prompt that are trained on, at most."""
    sdft_divergence: Literal["forward", "reverse"] = "forward"
    """Only for method sdft: from the teacher to the policy, or from the policy to the teacher."""
    sdft_template: str = _DEMONSTRATED
    """Only for method sdft: the last turn of the teacher's prompt, made from that of the policy's
    and from the annotation."""
    length_normalised: bool = False
    """Divide each summed logp by its number of tokens: not the papers' method."""
    sft_weight: float = Field(0.0, ge=0)
    """Weight of -logp(y) per token, in the loss of every method but sft and rft: not the papers'
    method."""
    epochs: int = Field(2, gt=0)
    """Passes over the triplets, in each iteration."""
    learning_rate: float | tuple[float, ...] = (5e-7, 5e-7, 1e-7)
    """At the end of the warm-up; one value an iteration, the last one stays."""
    global_batch_size: int = Field(64, gt=0)
    """Triplets an optimiser step, over all processes and accumulation steps."""
    optimizer: Literal["rmsprop", "adamw"] = "rmsprop"
    """rmsprop is the papers'."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warm-up; linear falls to 0."""
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    """Share of an iteration's steps in which the learning rate rises from 0."""
    weight_decay: float = Field(0.0, ge=0)
    """Share of the learning rate by which weights shrink in a step."""
    max_grad_norm: float | None = Field(None, gt=0)
    """None does not clip: summed logps give norms that a usual clip would always cut."""
    lora: LoraConfig | None = None
    guards: GuardConfig = GuardConfig()

    def at(self, name: Literal["learning_rate", "spin_lambda"], iteration: int) -> float:
        """The value of a per-iteration setting at one iteration."""
        value = getattr(self, name)
        values = value if isinstance(value, tuple) else (value,)
        return float(values[min(iteration, len(values) - 1)])

    def beta_at(self, iteration: int) -> float:
        """Weight of the historical advantage: none before there is a history."""
        uses_history = self.method in ("tspin", "tspin_all", "tspin_ref") and iteration > 0
        return self.beta if uses_history else 0.0

    def history_at(self, iteration: int) -> range:
        """Iterations whose responses are trained on beside y and y', from that of y0 on."""
        if self.beta_at(iteration) == 0:
            return range(0)
        return range(iteration if self.method == "tspin_all" else 1)

    @property
    def demonstration(self) -> str | None:
        """How the annotation stands in a teacher's prompt; None where there is no teacher."""
        return self.sdft_template if self.method == "sdft" else None

    @model_validator(mode="after")
    def _link_is_of_advantages(self) -> Self:
        if self.method in ("space", "sdft") and self.link != "logistic":
            raise ValueError(
                f"link is '{self.link}', but method '{self.method}' has no advantage to take it "
                "of; remove it"
            )
        return self

    @model_validator(mode="after")
    def _a_demonstration_has_its_places(self) -> Self:
        try:
            parts = [name for _, name, _, _ in Formatter().parse(self.sdft_template)]
        except ValueError as error:
            raise ValueError(f"sdft_template is {self.sdft_template!r}: {error}") from None
        if sorted(name for name in parts if name is not None) != ["demonstration", "prompt"]:
            raise ValueError(
                f"sdft_template is {self.sdft_template!r}; it needs '{{prompt}}' and "
                "'{demonstration}', each once, and no other braces but doubled ones"
            )
        return self

    @model_validator(mode="after")
    def _history_counts_where_it_is_all(self) -> Self:
        if self.method == "tspin_all" and self.beta == 0:
            raise ValueError(
                "beta is 0, but method 'tspin_all' is tspin with a longer history; give beta a "
                "value above 0, or take method 'tspin_no_history'"
            )
        return self

    @model_validator(mode="after")
    def _right_answers_can_be_found(self) -> Self:
        if self.method == "rft" and self.rft_extractor is None:
            raise ValueError(
                "method 'rft' trains on right answers; give rft_extractor, which finds them, such "
                "as gsm8k or last_number"
            )
        return self

    @model_validator(mode="after")
    def _lists_are_positive(self) -> Self:
        for name in ("learning_rate", "spin_lambda"):
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if not values or min(values) <= 0:
                raise ValueError(f"'{name}' is {value}; give one or more numbers above 0")
        return self
