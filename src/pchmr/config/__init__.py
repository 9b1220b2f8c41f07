"""What a user decides: one frozen dataclass per verb, JSON in and out.

Nothing here imports torch or numpy, so `pchmr --help` answers at once. Cross-field checks raise
`SettingError`, which the command line prints as one line.
"""

from pchmr.config.annotation import AnnotateConfig, LabelsConfig
from pchmr.config.audit import AuditConfig
from pchmr.config.deploy import DEFAULT_PORT, DeployConfig
from pchmr.config.errors import DivergedError, SettingError, UserError, require
from pchmr.config.options import (
    DataOptions,
    Domain,
    ModelOptions,
    OptimOptions,
    PartitionOptions,
    ServerOptions,
)
from pchmr.config.pages import LiveConfig, ReviewConfig
from pchmr.config.personalize import (
    FittingOptions,
    LabelingOptions,
    LoopConfig,
    PersonalizeConfig,
)
from pchmr.config.plain import from_dict, from_json, to_json
from pchmr.config.priors import PriorsConfig
from pchmr.config.privacy import PrivacyOptions
from pchmr.config.tools import (
    EXPORT_VARIANTS,
    BenchConfig,
    DemoConfig,
    DoctorConfig,
    ExportConfig,
    ReportConfig,
)
from pchmr.config.verbs import (
    FORMATS,
    Algorithm,
    DataConfig,
    Device,
    EvaluateConfig,
    FederateConfig,
    Partition,
    PredictConfig,
    ShapeExport,
    Smoothing,
    TrainConfig,
    lengths,
    settings_marked,
)

__all__ = [
    "DEFAULT_PORT",
    "EXPORT_VARIANTS",
    "FORMATS",
    "Algorithm",
    "AnnotateConfig",
    "AuditConfig",
    "BenchConfig",
    "DataConfig",
    "DataOptions",
    "DemoConfig",
    "DeployConfig",
    "Device",
    "DivergedError",
    "DoctorConfig",
    "Domain",
    "EvaluateConfig",
    "ExportConfig",
    "FederateConfig",
    "FittingOptions",
    "LabelingOptions",
    "LabelsConfig",
    "LiveConfig",
    "LoopConfig",
    "ModelOptions",
    "OptimOptions",
    "Partition",
    "PartitionOptions",
    "PersonalizeConfig",
    "PredictConfig",
    "PriorsConfig",
    "PrivacyOptions",
    "ReportConfig",
    "ReviewConfig",
    "ServerOptions",
    "SettingError",
    "ShapeExport",
    "Smoothing",
    "TrainConfig",
    "UserError",
    "from_dict",
    "from_json",
    "lengths",
    "require",
    "settings_marked",
    "to_json",
]
