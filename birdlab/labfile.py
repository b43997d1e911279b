"""What `birdlab.toml` may say: names for data, weights and teachers, and what cells may use."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import Name, Spec, Tuple
from birdlab.spec.sources import Source
from birdlab.spec.teaching import TeacherFile
from birdlab.words import texts_in

GPUName = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]


class SlurmSettings(Spec):
    """What a SLURM job of one cell asks for: `[slurm]` in the lab file.

    CPUs are those the cell computes and reads with.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    """`local` makes jobs processes of this machine, to try it."""
    partition: str | None = None
    """The partition of the queue."""
    account: str | None = None
    """The account that is charged."""
    qos: str | None = None
    """The quality of service."""
    constraint: str | None = None
    """The features that a node needs."""
    gpus: int = Field(default=0, ge=0, le=1)
    """The GPUs of a job. Unit: GPUs."""
    mem_gb: float | None = Field(default=None, gt=0)
    """The memory of a job."""
    time_min: int = Field(default=240, ge=1)
    """The limit of one submission."""
    signal_delay_s: int = Field(default=120, ge=1)
    """How long before that limit the cell is saved and put back into the queue."""
    requeues: int = Field(default=50, ge=0)
    """How often that may happen. Unit: submissions."""
    setup: Tuple[str] = ()
    """Lines of shell that are run before."""
    options: dict[str, str | int] = Field(default_factory=dict)
    """Further options of sbatch by name. Unit: of the option."""


class LabFile(Spec):
    """What `birdlab.toml` may say; `birdlab.local.toml` overrides it on one machine.

    Paths are relative to the file.
    """

    data: dict[Name, Source] = Field(default_factory=dict)
    """Data sets: names for folders."""
    weights: dict[Name, str] = Field(default_factory=dict)
    """Names for files of weights: a state dict, or safetensors."""
    teachers: dict[Name, TeacherFile] = Field(default_factory=dict)
    """Names for ONNX files that label or teach."""
    extensions: Tuple[str] = ()
    """Python files with kinds of your own."""
    jobs: int | None = Field(default=None, ge=1)
    """The most cells that are trained at once; all there is room for unless said. Unit: cells."""
    cores: int | None = Field(default=None, ge=1)
    """The CPU cores that cells may use; those of the process unless said. Unit: cores."""
    gpus: Annotated[int, Field(ge=0)] | Tuple[GPUName] | None = None
    """The GPUs that cells may use: a number, or names as in CUDA_VISIBLE_DEVICES; those of the
    process unless said. Unit: GPUs."""
    cells_per_gpu: int = Field(default=1, ge=1, le=32)
    """How many cells share a GPU. Unit: cells."""
    slurm: SlurmSettings = Field(default_factory=SlurmSettings)
    """What jobs of a SLURM queue ask for."""
    stores: str = "mlruns"
    """The folder of all that birdlab writes."""
    readers: int = Field(default=1, ge=0, le=64)
    """The threads per cell that read clips ahead. Unit: threads."""
    waveforms: Literal["store", "decode"] = "store"
    """`decode` keeps no decoded audio and reads crops from the files themselves."""
    tracking_uri: str = ""
    """The address of an MLflow server; SQLite in the stores unless said."""
    system_metrics: bool = False
    """Log what the machine does while runs are under way."""
    notify_url: str = ""
    """The address that is told when a run or sweep ends; BIRDLAB_NOTIFY_URL goes before it."""

    @model_validator(mode="before")
    @classmethod
    def _check_characters(cls, said: Any) -> Any:
        if any("\0" in text for text in texts_in(said)):
            raise ValueError("a text holds the character of number 0, which no path has")
        return said
