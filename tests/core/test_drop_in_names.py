"""Scripts written for NNCF 2.17 find every documented name where it was, with the parameters it had."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import nncf

NAMES = {
    "nncf": """quantize quantize_with_accuracy_control compress_weights strip NNCFConfig Dataset IgnoredScope Subgraph
        BackupMode CompressionFormat CompressWeightsMode DropType ModelType QuantizationMode SensitivityMetric
        StripFormat TargetDevice QuantizationPreset OverflowFix GroupSizeFallbackMode PruneMode prune pruning_statistic
        batch_norm_adaptation build_graph AdvancedAccuracyRestorerParameters AdvancedAWQParameters
        AdvancedBiasCorrectionParameters AdvancedCompressionParameters AdvancedGPTQParameters
        AdvancedLoraCorrectionParameters AdvancedQuantizationParameters AdvancedScaleEstimationParameters
        AdvancedSmoothQuantParameters set_log_level disable_logging nncf_logger __version__ ValidationError
        InternalError UnsupportedDatasetError InvalidPathError UnsupportedBackendError InvalidQuantizerGroupError
        InstallationError UnsupportedModelError InvalidGroupSizeError UnsupportedVersionError ModuleNotFoundError
        ParameterNotSupportedError InvalidCollectorTypeError BufferFullError UnknownDatasetError
        StatisticsCacheError""",
    "nncf.errors": "ValidationError InternalError UnsupportedBackendError ParameterNotSupportedError",
    "nncf.parameters": """TargetDevice ModelType DropType QuantizationPreset QuantizationMode OverflowFix BackupMode
        CompressWeightsMode CompressionFormat StripFormat SensitivityMetric GroupSizeFallbackMode PruneMode StrEnum""",
    "nncf.scopes": "IgnoredScope Subgraph",
    "nncf.data": "Dataset generate_text_data",
    "nncf.data.dataset": "Dataset",
    "nncf.config": "NNCFConfig",
    "nncf.config.structures": "QuantizationRangeInitArgs BNAdaptationInitArgs ModelEvaluationArgs",
    "nncf.quantization": "quantize quantize_with_accuracy_control compress_weights QuantizationPreset",
    "nncf.quantization.quantize_model": "quantize quantize_with_accuracy_control compress_weights",
    "nncf.quantization.advanced_parameters": """QuantizationParameters FP8QuantizationParameters FP8Type RestoreMode
        OverflowFix QuantizationScheme QuantizerPropagationRule AdvancedBiasCorrectionParameters
        AdvancedSmoothQuantParameters AdvancedQuantizationParameters AdvancedAWQParameters
        AdvancedScaleEstimationParameters AdvancedGPTQParameters AdvancedLoraCorrectionParameters
        AdvancedAdaptiveCodebookParameters AdvancedCompressionParameters AdvancedAccuracyRestorerParameters
        convert_quantization_parameters_to_dict convert_range_estimator_parameters_to_dict
        apply_advanced_parameters_to_config""",
    "nncf.quantization.range_estimator": """StatisticsType AggregatorType StatisticsCollectorParameters
        RangeEstimatorParameters RangeEstimatorParametersSet""",
    "nncf.common.logging": "nncf_logger",
    "nncf.common.logging.logger": "nncf_logger set_log_level disable_logging",
    "nncf.common.logging.track_progress": "track",
    "nncf.common.quantization.structs": "QuantizationPreset QuantizationScheme QuantizationMode QuantizerGroup",
    "nncf.common.graph": "NNCFGraph NNCFNode",
    "nncf.common.graph.graph": "NNCFGraph NNCFNode",
    "nncf.common.graph.transformations.commands": "TargetType",
    "nncf.common.factory": "NNCFGraphFactory",
    "nncf.common.statistics": "NNCFStatistics",
    "nncf.common.sparsity.statistics": """MagnitudeSparsityStatistics RBSparsityStatistics MovementSparsityStatistics
        ConstSparsityStatistics SparsifiedModelStatistics""",
    "nncf.common.pruning.statistics": "FilterPruningStatistics",
    "nncf.common.quantization.statistics": "QuantizationStatistics QuantizersCounter",
    "nncf.common.initialization.dataloader": "NNCFDataLoader",
    "nncf.common.initialization.batchnorm_adaptation": "BatchnormAdaptationAlgorithm",
    "nncf.common.accuracy_aware_training": "create_accuracy_aware_training_loop",
    "nncf.common.accuracy_aware_training.training_loop": """TrainingLoop EarlyExitCompressionTrainingLoop
        AdaptiveCompressionTrainingLoop""",
    "nncf.api.compression": "CompressionLoss CompressionScheduler CompressionStage CompressionAlgorithmController",
    "nncf.api.statistics": "Statistics",
    "nncf.experimental.common.graph.netron": "save_for_netron",
    "nncf.experimental.torch.sparsify_activations": "sparsify_activations TargetScope",
    "nncf.experimental.torch.sparsity.movement.algo": "MovementSparsityController",
    "nncf.experimental.torch.fx": "quantize_pt2e OpenVINOQuantizer",
    "nncf.experimental.torch.fx.quantization.backend_parameters": "FXBackendParameters",
    "nncf.openvino.quantization.backend_parameters": "BackendParameters",
    "nncf.onnx.quantization.backend_parameters": "BackendParameters",
    "nncf.torch": """create_compressed_model load_state register_default_init_args register_module register_operator
        nncf_model_input nncf_model_output disable_tracing no_nncf_trace forward_nncf_trace disable_patching
        force_build_cpu_extensions force_build_cuda_extensions is_wrapped_model wrap_model load_from_config get_config
        strip""",
    "nncf.torch.initialization": "register_default_init_args PTInitializingDataLoader",
    "nncf.torch.structures": """QuantizationPrecisionInitArgs AutoQPrecisionInitArgs LeGRInitArgs
        DistributedCallbacksArgs ExecutionParameters""",
    "nncf.torch.knowledge_distillation.algo": "KnowledgeDistillationController",
    "nncf.torch.pruning.filter_pruning.algo": "FilterPruningController",
    "nncf.torch.quantization.algo": "QuantizationController",
    "nncf.torch.sparsity.base_algo": "BaseSparsityAlgoController",
    "nncf.torch.sparsity.const.algo": "ConstSparsityController",
    "nncf.torch.sparsity.magnitude.algo": "MagnitudeSparsityController",
    "nncf.torch.sparsity.rb.algo": "RBSparsityController",
    "nncf.torch.function_hook.pruning.magnitude.schedulers": """MultiStepMagnitudePruningScheduler
        ExponentialMagnitudePruningScheduler""",
    "nncf.torch.function_hook.pruning.rb.schedulers": "MultiStepRBPruningScheduler ExponentialRBPruningScheduler",
    "nncf.torch.function_hook.pruning.rb.losses": "RBLoss",
}
"""Documented names of 2.17, and of later releases, by their modules."""

LEFT_OUT = {
    "nncf.api.compression.CompressionAlgorithmBuilder",
    "nncf.quantization.quantize_model.quantize_with_tune_hyperparams",
    "nncf.experimental.torch.fx.compress_pt2e",
    "nncf.experimental.torch.gptqmodel",
    "nncf.experimental.torch.nas",
    "nncf.experimental.quantization.quantizer.Quantizer",
    "nncf.tensorflow",
}
"""What has no counterpart here; docs/drop_in.md says what to use."""

REFUSED = {
    "nncf.common.graph.transformations.commands": """TargetPoint TransformationPriority TransformationType
        TransformationCommand""",
    "nncf.common.utils.helpers": "create_table",
}
"""What has none either, and says so to who imports it."""

_PTQ = "preset target_device subset_size fast_bias_correction model_type ignored_scope"
_LOOP = "nncf_config compression_controller uncompressed_model_accuracy lr_updates_needed verbose"
SIGNATURES = {
    "nncf.quantize": f"model calibration_dataset mode {_PTQ} advanced_parameters",
    "nncf.quantize_with_accuracy_control": f"model calibration_dataset validation_dataset validation_fn max_drop "
    f"drop_type {_PTQ} advanced_quantization_parameters advanced_accuracy_restorer_parameters",
    "nncf.compress_weights": "model mode ratio group_size ignored_scope all_layers dataset sensitivity_metric * "
    "subset_size awq scale_estimation gptq lora_correction backup_mode compression_format advanced_parameters",
    "nncf.strip": "model do_copy strip_format example_input",
    "nncf.prune": "model mode * ratio ignored_scope examples_inputs",
    "nncf.pruning_statistic": "model",
    "nncf.batch_norm_adaptation": "model calibration_dataset * num_iterations",
    "nncf.build_graph": "model * example_input",
    "nncf.set_log_level": "level",
    "nncf.Dataset": "data_source transform_func",
    "nncf.IgnoredScope": "names patterns types subgraphs validate",
    "nncf.Subgraph": "inputs outputs",
    "nncf.data.generate_text_data": "model tokenizer seq_len dataset_size unique_tokens_lower_limit",
    "nncf.quantization.advanced_parameters.QuantizationParameters": "num_bits mode signedness_to_force per_channel "
    "narrow_range",
    "nncf.quantization.advanced_parameters.FP8QuantizationParameters": "destination_type",
    "nncf.AdvancedBiasCorrectionParameters": "apply_for_all_nodes threshold",
    "nncf.AdvancedSmoothQuantParameters": "convolution matmul",
    "nncf.AdvancedQuantizationParameters": "overflow_fix quantize_outputs inplace_statistics disable_channel_alignment "
    "disable_bias_correction batchwise_statistics activations_quantization_params weights_quantization_params "
    "quantizer_propagation_rule activations_range_estimator_params weights_range_estimator_params "
    "bias_correction_params smooth_quant_alphas smooth_quant_alpha backend_params",
    "nncf.AdvancedAWQParameters": "subset_size percent_to_apply alpha_min alpha_max steps prefer_data_aware_scaling",
    "nncf.AdvancedScaleEstimationParameters": "subset_size initial_steps scale_steps weight_penalty",
    "nncf.AdvancedGPTQParameters": "damp_percent block_size subset_size",
    "nncf.AdvancedLoraCorrectionParameters": "adapter_rank num_iterations apply_regularization subset_size "
    "use_int8_adapters",
    "nncf.AdvancedCompressionParameters": "statistics_path awq_params scale_estimation_params gptq_params "
    "lora_correction_params lora_adapter_rank backend_params ...",
    "nncf.AdvancedAccuracyRestorerParameters": "max_num_iterations tune_hyperparams ranking_subset_size "
    "num_ranking_workers intermediate_model_dir restore_mode ...",
    "nncf.quantization.range_estimator.StatisticsCollectorParameters": "statistics_type aggregator_type "
    "clipping_value quantile_outlier_prob",
    "nncf.quantization.range_estimator.RangeEstimatorParameters": "min max",
    "nncf.common.quantization.structs.QuantizationPreset.get_params_configured_by_preset": "self quant_group",
    "nncf.common.accuracy_aware_training.create_accuracy_aware_training_loop": "nncf_config compression_ctrl "
    "uncompressed_model_accuracy **additional_runner_args",
    "nncf.common.accuracy_aware_training.training_loop.EarlyExitCompressionTrainingLoop": f"{_LOOP} dump_checkpoints",
    "nncf.common.accuracy_aware_training.training_loop.AdaptiveCompressionTrainingLoop": f"{_LOOP} "
    "minimal_compression_rate maximal_compression_rate ...",
    "nncf.common.accuracy_aware_training.training_loop.TrainingLoop.run": "self model train_epoch_fn validate_fn "
    "configure_optimizers_fn dump_checkpoint_fn load_checkpoint_fn early_stopping_fn tensorboard_writer log_dir "
    "update_learning_rate_fn",
    "nncf.NNCFConfig.from_dict": "nncf_dict",
    "nncf.NNCFConfig.from_json": "path",
    "nncf.NNCFConfig.register_extra_structs": "self struct_list",
    "nncf.config.structures.QuantizationRangeInitArgs": "data_loader device",
    "nncf.config.structures.BNAdaptationInitArgs": "data_loader device",
    "nncf.config.structures.ModelEvaluationArgs": "eval_fn",
    "nncf.api.compression.CompressionAlgorithmController": "target_model",
    "nncf.api.compression.CompressionAlgorithmController.export_model": "self save_path save_format input_names "
    "output_names model_args",
    "nncf.api.compression.CompressionAlgorithmController.strip": "self do_copy strip_format",
    "nncf.api.compression.CompressionAlgorithmController.statistics": "self quickly_collected_only",
    "nncf.experimental.torch.sparsify_activations.sparsify_activations": "model dataset target_sparsity_by_scope "
    "ignored_scope",
    "nncf.experimental.torch.fx.quantize_pt2e": "model quantizer calibration_dataset subset_size fast_bias_correction "
    "smooth_quant bias_correction_params smooth_quant_params activations_range_estimator_params "
    "weights_range_estimator_params batchwise_statistics fold_quantize do_copy",
    "nncf.experimental.torch.fx.OpenVINOQuantizer": "* mode preset target_device model_type ignored_scope overflow_fix "
    "quantize_outputs activations_quantization_params weights_quantization_params quantizer_propagation_rule",
    "nncf.common.initialization.batchnorm_adaptation.BatchnormAdaptationAlgorithm": "data_loader "
    "num_bn_adaptation_samples device",
    "nncf.torch.create_compressed_model": "model config compression_state dummy_forward_fn wrap_inputs_fn "
    "wrap_outputs_fn dump_graphs",
    "nncf.torch.load_state": "model state_dict_to_load is_resume keys_to_ignore",
    "nncf.torch.register_default_init_args": "nncf_config train_loader criterion criterion_fn train_steps_fn "
    "validate_fn val_loader autoq_eval_fn model_eval_fn distributed_callbacks execution_parameters "
    "legr_train_optimizer device",
    "nncf.torch.register_module": "*quantizable_field_names ignored_algorithms target_weight_dim_for_compression",
    "nncf.torch.wrap_model": "model example_input trace_parameters",
    "nncf.torch.load_from_config": "model config example_input",
    "nncf.torch.get_config": "model",
    "nncf.torch.structures.QuantizationPrecisionInitArgs": "criterion_fn criterion data_loader device",
    "nncf.torch.structures.AutoQPrecisionInitArgs": "data_loader eval_fn nncf_config",
    "nncf.torch.structures.LeGRInitArgs": "train_loader train_fn val_loader val_fn train_optimizer nncf_config",
    "nncf.torch.structures.DistributedCallbacksArgs": "wrapping_callback unwrapping_callback",
    "nncf.torch.structures.ExecutionParameters": "cpu_only current_gpu",
}
"""Parameters in their order; what stands behind ``*`` is passed by name, and more may stand behind ``...``."""

_PACKAGES = {
    "nncf.onnx": ("nncf_onnx",),
    "nncf.openvino": ("nncf_openvino",),
    "nncf.torch": ("nncf_torch", "torch"),
    "nncf.common.initialization.batchnorm_adaptation": ("nncf_torch", "torch"),
    "nncf.experimental.torch.fx": ("nncf_torch", "torch"),
    "nncf.torch.knowledge_distillation": ("nncf_knowledge_distillation",),
    "nncf.torch.pruning": ("nncf_filter_pruning",),
    "nncf.torch.quantization": ("nncf_quantization_aware_training",),
    "nncf.torch.sparsity.const": ("nncf_const_sparsity",),
    "nncf.torch.sparsity.magnitude": ("nncf_magnitude_sparsity",),
    "nncf.torch.sparsity.rb": ("nncf_rb_sparsity",),
    "nncf.experimental.torch.sparsity.movement": ("nncf_movement_sparsity",),
}


def cases(names):
    """Each name, with a mark of the packages that it needs."""
    made = []
    for name in names:
        needed = {
            package for start, found in _PACKAGES.items() if f"{name}.".startswith(f"{start}.") for package in found
        }
        made.append(pytest.param(name, marks=pytest.mark.needs(*sorted(needed))))
    return made


def found(path):
    """What a dotted path names: modules as far as there are any, then attributes."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            value = getattr(value, part)
        return value
    raise AssertionError(path)


@pytest.mark.parametrize("module", cases(NAMES))
def test_every_name_is_where_it_was(module):
    place = importlib.import_module(module)
    for name in NAMES[module].split():
        assert getattr(place, name) is not None
        assert name in dir(place), f"{module}.{name}"


@pytest.mark.parametrize("path", cases(SIGNATURES))
def test_parameters_are_in_their_order(path):
    parts = []
    for parameter in inspect.signature(found(path)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in "".join(parts):
            parts.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        parts.append(stars + parameter.name)
    wanted = SIGNATURES[path].split()
    if wanted[-1] == "...":
        wanted.pop()
        assert len(parts) > len(wanted)
        parts = parts[: len(wanted)]
    assert parts == wanted


def test_what_is_left_out_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "drop_in.md").read_text()
    for path in LEFT_OUT:
        with pytest.raises((AttributeError, AssertionError)):
            found(path)
        assert f"`{path}`" in page, path


@pytest.mark.parametrize("module", REFUSED)
def test_what_is_refused_says_what_to_use(module):
    page = (Path(__file__).parents[2] / "docs" / "drop_in.md").read_text()
    place = importlib.import_module(module)
    for name in REFUSED[module].split():
        with pytest.raises(ImportError, match=rf"^{module}\.{name} is not part of this project: .*docs/drop_in\.md"):
            exec(f"from {module} import {name}")  # noqa: S102 - an attribute that is asked for fails otherwise
        assert name not in dir(place)
        assert f"`{name}`" in page or f"`{module}`" in page
    assert not hasattr(place, "__wrapped__")


def test_places_of_edits_have_their_numbers():
    from nncf.common.graph.transformations.commands import TargetType

    assert {kind.name: int(kind) for kind in TargetType} == {
        "LAYER": 0, "PRE_LAYER_OPERATION": 3, "POST_LAYER_OPERATION": 4, "OPERATION_WITH_WEIGHTS": 5,
        "OPERATOR_PRE_HOOK": 6, "OPERATOR_POST_HOOK": 7,
    }  # fmt: skip


def test_a_name_of_an_algorithm_that_is_not_installed_says_what_to_install():
    code = """
import importlib.util
find = importlib.util.find_spec
missing = ("nncf_torch", "nncf_movement_sparsity")
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in missing else find(name, package)
for use in ("from nncf.experimental.torch.fx import quantize_pt2e",
            "from nncf.experimental.torch.sparsity.movement.algo import MovementSparsityController"):
    try:
        exec(use)
    except ImportError as error:
        print(error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split("pip install ")[1] for line in shown] == ["nncf-torch", "nncf-movement-sparsity"]


def test_presets_tell_their_schemes():
    from nncf.common.quantization.structs import QuantizationMode, QuantizationScheme, QuantizerGroup

    schemes = {
        (str(preset), str(group)): str(preset.get_params_configured_by_preset(group)["mode"])
        for preset in nncf.QuantizationPreset
        for group in QuantizerGroup
    }
    assert schemes == {
        ("performance", "activations"): "symmetric", ("performance", "weights"): "symmetric",
        ("mixed", "activations"): "asymmetric", ("mixed", "weights"): "symmetric",
    }  # fmt: skip
    assert QuantizationMode is QuantizationScheme


def test_loops_are_tracked(monkeypatch):
    from nncf.common.logging.track_progress import track
    from nncf_core import progress

    seen = []

    class Kept(progress.SilentProgress):
        def track(self, items, description, total=None):
            seen.append((description, total))
            return super().track(items, description, total)

    monkeypatch.setattr(progress, "script_progress", Kept)
    assert list(track([3, 4], description="Half")) == [3, 4]
    assert list(track(iter([5]), total=1)) == [5]
    assert list(track(iter([6]), weights=[1.0])) == [6]
    assert list(track([7], disable=True)) == [7]
    assert seen == [("Half", 2), ("Working...", 1), ("Working...", None)]


@pytest.fixture
def graph(tmp_path):
    pytest.importorskip("nncf_onnx")
    from tests.cli.models import onnx_model

    return nncf.common.factory.NNCFGraphFactory.create(onnx_model(tmp_path / "model.onnx"))


def test_nodes_are_looked_for_by_type(graph):
    layers = graph.get_nodes_by_types(["MatMul"])
    assert [node.node_name for node in layers] == ["layer0", "layer1", "layer2"]
    (behind,) = graph.get_next_nodes(layers[0])
    assert (behind.node_name, behind.node_type) == ("relu0", "Relu")
    assert graph.get_previous_nodes(behind) == [layers[0]]
    assert graph.get_node_by_id(layers[1].node_id) == layers[1] == graph.get_node_by_name("layer1")
    assert graph.get_output_nodes()[0].node_name == "relu2"
    assert [node.node_id for node in graph.topological_sort()] == list(range(len(graph.get_all_nodes())))
    for wrong in (lambda: graph.get_node_by_id(99), lambda: graph.get_node_by_name("none")):
        with pytest.raises(nncf.ValidationError, match="has no node"):
            wrong()


def test_graphs_are_written_for_netron(graph, tmp_path):
    from nncf.experimental.common.graph.netron import save_for_netron

    save_for_netron(graph, tmp_path / "graph.xml", "layers")
    root = ElementTree.parse(tmp_path / "graph.xml").getroot()
    layers = {layer.get("id"): layer for layer in root.find("layers")}
    assert [layer.get("name") for layer in layers.values()] == [node.name for node in graph]
    ends = {
        (layers[edge.get("from-layer")].get("name"), layers[edge.get("to-layer")].get("name"))
        for edge in root.find("edges")
    }
    assert ends >= {("layer0", "relu0"), ("relu0", "layer1")}
    ports = {port.get("id") for layer in layers.values() for port in layer.iter("port")}
    assert {edge.get("from-port") for edge in root.find("edges")} <= ports
    weight = layers[str(graph.get_node_by_name("layer0").node_id)].find("input")[1]
    assert weight.get("precision") == "FP32"
    assert [dim.text for dim in weight] == ["64", "96"]
    save_for_netron(graph, tmp_path / "graph.xml", get_attributes_fn=lambda node: {"of": node.node_name})
    shown = [data.get("of") for data in ElementTree.parse(tmp_path / "graph.xml").getroot().iter("data")]
    assert shown == [node.name for node in graph]
    with pytest.raises(nncf.InvalidPathError):
        save_for_netron(graph, tmp_path / "none" / "graph.xml")


@pytest.mark.needs("nncf_quantization_aware_training")
def test_advanced_parameters_become_a_section_of_a_training():
    from nncf.quantization.advanced_parameters import (
        QuantizationParameters,
        apply_advanced_parameters_to_config,
        convert_range_estimator_parameters_to_dict,
    )  # fmt: skip
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Estimators

    given = {"algorithm": "quantization", "preset": "mixed", "initializer": {"range": {"num_init_samples": 16}}}
    params = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.DISABLE,
        weights_quantization_params=QuantizationParameters(num_bits=4, mode="symmetric", per_channel=True),
        activations_range_estimator_params=Estimators.MEAN_QUANTILE,
    )
    section = apply_advanced_parameters_to_config(given, params)
    assert section["weights"] == {"bits": 4, "mode": "symmetric", "per_channel": True}
    (ranges,) = section["initializer"]["range"]
    assert ranges["target_quantizer_group"] == "activations"
    assert (ranges["num_init_samples"], ranges["type"]) == (16, "mean_percentile")
    assert ranges["params"] == pytest.approx({"min_percentile": 0.01, "max_percentile": 99.99})
    assert (section["overflow_fix"], section["preset"]) == ("disable", "mixed")
    assert given["initializer"]["range"] == {"num_init_samples": 16}
    nncf.NNCFConfig.from_dict(json.loads(json.dumps({"compression": section})))
    assert convert_range_estimator_parameters_to_dict(Estimators.MINMAX) == {"type": "min_max"}
    assert convert_range_estimator_parameters_to_dict(Estimators.MEAN_MINMAX) == {"type": "mean_min_max"}


@pytest.mark.parametrize(
    ("params", "what"),
    [
        (lambda: nncf.AdvancedQuantizationParameters(smooth_quant_alpha=0.5), "smooth_quant_alpha"),
        (
            lambda: nncf.AdvancedQuantizationParameters(
                weights_quantization_params=nncf.quantization.advanced_parameters.QuantizationParameters(
                    narrow_range=True
                )
            ),
            "narrow_range",
        ),
        (
            lambda: nncf.AdvancedQuantizationParameters(
                weights_quantization_params=nncf.quantization.advanced_parameters.FP8QuantizationParameters()
            ),
            "FP8",
        ),
        (
            lambda: nncf.AdvancedQuantizationParameters(
                weights_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParametersSet.HISTOGRAM
            ),
            "range estimator",
        ),
    ],
)
def test_what_a_section_cannot_say_is_refused(params, what):
    with pytest.raises(nncf.ParameterNotSupportedError, match=what):
        nncf.quantization.advanced_parameters.apply_advanced_parameters_to_config({}, params())
