"""What one training is asked to do, and what it must not be asked to do."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tspin.config import RunConfig
from tspin.errors import InputError
from tspin.models.policy import policy_identity
from tspin.models.quantization import quantization_parameters
from tspin.records.arithmetic import Arithmetic
from tspin.records.manifest import Manifest, content_hash, read_manifest, refuse_contradiction
from tspin.records.records import is_annotated
from tspin.tokens.prompts import PromptTemplate

__all__ = ["TrainJob"]

_CARRIED = ("annotated", "proto_synthetic")
"""Inputs of the triplets that all iterations of a run have in common."""


class TrainJob(BaseModel):
    """One training, as JSON for the processes that share it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: RunConfig
    model: str
    triplets: Path
    iteration: int
    out: Path
    checkpoints: Path
    mirror: str | None = None
    """Prefix of a store that gets each checkpoint as well."""
    arithmetic: Arithmetic | None = None
    """What the run was begun with; None outside of a run."""
    began: float | None = None
    """When the step began (see `StepClock`), where another process launches this one."""

    def kept_in(self, root: str, manifest: Manifest) -> TrainJob:
        """The same job with its checkpoints below `root`, in a place of this work alone.

        Args:
            root: A folder, or `s3://bucket/prefix`, where checkpoints are copied to.
            manifest: Of the model.
        """
        place = manifest.key[:16]
        if "://" in root:
            return self.model_copy(update={"mirror": f"{root.rstrip('/')}/{place}"})
        return self.model_copy(update={"checkpoints": Path(root) / place})

    def wanted(self, template: PromptTemplate) -> Manifest:
        """The manifest that the trained model will have, before its results are known.

        Raises:
            InputError: model and triplets do not belong together.
        """
        if not self.triplets.is_file():
            raise InputError(f"{self.triplets}: no such file; expected triplets (JSON Lines)")
        identity = policy_identity(self.model, self.config.model)
        annotated = is_annotated(self.triplets)
        triplets_manifest = None if annotated else read_manifest(self.triplets)
        carried = (
            {}
            if triplets_manifest is None
            else {k: triplets_manifest.inputs[k] for k in _CARRIED if k in triplets_manifest.inputs}
        )
        if triplets_manifest is not None:
            self._refuse_contradictions(triplets_manifest, identity, template)
        role = "annotated" if annotated else "triplets"
        inputs = carried | {role: content_hash(self.triplets)}
        self._refuse_other_run(inputs)
        return Manifest(
            kind="model",
            inputs=inputs,
            iteration=self.iteration,
            model=identity,
            template=template.hash,
            parameters=self._parameters(),
            seed=self.config.seed,
        )

    def _refuse_contradictions(
        self, triplets_manifest: Manifest, identity: str, template: PromptTemplate
    ) -> None:
        triplets, model = str(self.triplets), self.model
        refuse_contradiction(
            "prompt template", {triplets: triplets_manifest.template, model: template.hash}
        )
        refuse_contradiction(
            "policy (synthetic responses must come from the one that is trained)",
            {f"generated {triplets}": triplets_manifest.model, f"to be trained, {model}": identity},
        )
        number = None if triplets_manifest.iteration is None else str(triplets_manifest.iteration)
        refuse_contradiction(
            "iteration", {triplets: number, "asked for (--iteration)": str(self.iteration)}
        )

    def _refuse_other_run(self, inputs: dict[str, str]) -> None:
        folder = Path(self.model)
        previous = read_manifest(folder) if folder.is_dir() else None
        for role in _CARRIED:
            known = None if previous is None else previous.inputs.get(role)
            names = {f"{self.model} was trained on": known, str(self.triplets): inputs.get(role)}
            refuse_contradiction(f"'{role}' input", names)

    def _parameters(self) -> dict[str, object]:
        settings = self.config.train
        # What only one method reads is no news of the others, whose older outputs do not have it.
        others = set() if settings.method == "space" else {"noise_ratio"}
        others |= set() if settings.method == "rft" else {"rft_extractor", "rft_cap"}
        others |= set() if settings.method == "sdft" else {"sdft_divergence", "sdft_template"}
        return settings.model_dump(mode="json", exclude={"guards", *others}) | {
            "learning_rate": settings.at("learning_rate", self.iteration),
            "spin_lambda": settings.at("spin_lambda", self.iteration),
            "beta": settings.beta_at(self.iteration),
            "max_length": self.config.prompt.max_length,
            "over_long": self.config.prompt.over_long,
            "dtype": self.config.model.dtype,
            **quantization_parameters(self.config.model),
        }
