"""The three files that triplets are joined from, and whether they belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tspin.config import TripletsConfig
from tspin.errors import InputError
from tspin.records.manifest import Manifest, content_hash, read_manifest, refuse_contradiction

__all__ = ["TripletSources"]


@dataclass(frozen=True)
class TripletSources:
    """The three files and the manifests of the generated two."""

    annotated: Path
    synthetic: Path
    proto: Path
    annotated_hash: str
    synthetic_manifest: Manifest | None
    proto_manifest: Manifest | None

    @classmethod
    def open(cls, annotated: Path, synthetic: Path, proto: Path) -> TripletSources:
        """Look at the files and their manifests.

        Raises:
            InputError: a file is missing, was changed after it was made, or does not belong to
                the others: another annotated set, another template, not the initial policy's.
        """
        for path in (annotated, synthetic, proto):
            if not path.is_file():
                raise InputError(f"{path}: no such file")
        sources = cls(
            annotated=annotated,
            synthetic=synthetic,
            proto=proto,
            annotated_hash=content_hash(annotated),
            synthetic_manifest=read_manifest(synthetic),
            proto_manifest=read_manifest(proto),
        )
        sources._refuse_contradictions()
        return sources

    def _refuse_contradictions(self) -> None:
        made = {self.synthetic: self.synthetic_manifest, self.proto: self.proto_manifest}
        known = {str(path): manifest for path, manifest in made.items() if manifest}
        for path, manifest in known.items():
            if manifest.kind != "responses":
                raise InputError(f"{path}: its manifest says {manifest.kind}, expected responses")
        annotated: dict[str, str | None] = {str(self.annotated): self.annotated_hash}
        for path, manifest in known.items():
            annotated[path] = manifest.inputs.get("annotated")
        refuse_contradiction("annotated set", annotated)
        refuse_contradiction(
            "prompt template", {path: manifest.template for path, manifest in known.items()}
        )
        if self.proto_manifest and self.proto_manifest.iteration not in (0, None):
            raise InputError(
                f"{self.proto}: responses of iteration {self.proto_manifest.iteration}; "
                "proto-synthetic responses are those of the initial policy, iteration 0"
            )

    def wanted(self, config: TripletsConfig) -> Manifest:
        """The manifest of the triplets to be made from these sources."""
        known = self.synthetic_manifest
        return Manifest(
            kind="triplets",
            inputs={
                "annotated": self.annotated_hash,
                "synthetic": content_hash(self.synthetic),
                "proto_synthetic": content_hash(self.proto),
            },
            iteration=known.iteration if known else None,
            model=known.model if known else None,
            template=known.template if known else None,
            parameters=config.model_dump(mode="json"),
            seed=known.seed if known else None,
        )
