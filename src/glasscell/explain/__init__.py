"""Explanations of a trained model: interventions, attribution, dynamics, and what it does over a data set.

Change a value and measure the effect (docs/interventions.md): :func:`intervene`, :class:`Intervention`,
:func:`outputs_under`, :func:`trace_under`, and :func:`ablation` with :func:`unit_interventions`,
:func:`step_interventions` and :func:`scaled_gates`.

What a model does over a data set (docs/what_it_does.md): :func:`decodability`, when the cells hold a label;
:func:`unit_differences`, which units differ; :func:`dependency`, which input each output depends on; :func:`relay`,
which units carry an input to its output; :func:`extreme_inputs`, what opens and closes a gate.

Inputs and gradients (docs/attribution.md): :func:`integrated_gradients` with :func:`mean_input` as a baseline,
:func:`gradient_times_input`, :func:`occlusion`, :func:`output_gradients`, :func:`output_gradient_matrix`,
:func:`gradient_flow`, :func:`gradient_sources`.

Dynamics (docs/dynamics.md): :func:`fixed_points`, :func:`rest_state`, :func:`lyapunov_spectrum`,
:func:`effective_memory`.

:mod:`glasscell.explain.figures` draws the results with Matplotlib.
"""

from typing import TYPE_CHECKING

from glasscell.lazy import attach

if TYPE_CHECKING:
    from glasscell.explain import figures
    from glasscell.explain.ablations import Ablation, ablation, scaled_gates, step_interventions, unit_interventions
    from glasscell.explain.attribution import Attribution, gradient_times_input, integrated_gradients
    from glasscell.explain.baselines import mean_input
    from glasscell.explain.crossings import (
        GradientFlow,
        SourceSteps,
        gradient_flow,
        gradient_sources,
        split_by_crossings,
    )
    from glasscell.explain.decoding import Decodability, decodability
    from glasscell.explain.dependencies import Dependency, dependency
    from glasscell.explain.differences import UnitDifferences, unit_differences
    from glasscell.explain.extremes import Extreme, ExtremeInputs, extreme_inputs
    from glasscell.explain.fixed_point_search import FixedPoints, SlowPoints, fixed_points
    from glasscell.explain.gradients_of_outputs import (
        GradientMatrix,
        OutputGradients,
        output_gradient_matrix,
        output_gradients,
    )
    from glasscell.explain.intervening import intervene, outputs_under, trace_under
    from glasscell.explain.intervention import Intervention
    from glasscell.explain.lyapunov import LyapunovSpectrum, lyapunov_spectrum
    from glasscell.explain.memory_length import EffectiveMemory, effective_memory
    from glasscell.explain.quantities import ClassScore, LogProbability
    from glasscell.explain.relays import Handover, Relay, Stretch, relay
    from glasscell.explain.replacements import Occlusion, occlusion
    from glasscell.explain.rest_states import rest_state

__all__ = [
    "Ablation",
    "Attribution",
    "ClassScore",
    "Decodability",
    "Dependency",
    "EffectiveMemory",
    "Extreme",
    "ExtremeInputs",
    "FixedPoints",
    "GradientFlow",
    "GradientMatrix",
    "Handover",
    "Intervention",
    "LogProbability",
    "LyapunovSpectrum",
    "Occlusion",
    "OutputGradients",
    "Relay",
    "SlowPoints",
    "SourceSteps",
    "Stretch",
    "UnitDifferences",
    "ablation",
    "decodability",
    "dependency",
    "effective_memory",
    "extreme_inputs",
    "figures",
    "fixed_points",
    "gradient_flow",
    "gradient_sources",
    "gradient_times_input",
    "integrated_gradients",
    "intervene",
    "lyapunov_spectrum",
    "mean_input",
    "occlusion",
    "output_gradient_matrix",
    "output_gradients",
    "outputs_under",
    "relay",
    "rest_state",
    "scaled_gates",
    "split_by_crossings",
    "step_interventions",
    "trace_under",
    "unit_differences",
    "unit_interventions",
]

__getattr__, __dir__ = attach(
    __name__,
    dict.fromkeys(("Attribution", "gradient_times_input", "integrated_gradients"), "attribution")
    | dict.fromkeys(("ClassScore", "LogProbability"), "quantities")
    | dict.fromkeys(
        ("GradientFlow", "SourceSteps", "gradient_flow", "gradient_sources", "split_by_crossings"), "crossings"
    )
    | dict.fromkeys(("GradientMatrix", "OutputGradients"), "gradients_of_outputs")
    | dict.fromkeys(("output_gradient_matrix", "output_gradients"), "gradients_of_outputs")
    | dict.fromkeys(("Occlusion", "occlusion"), "replacements")
    | {"mean_input": "baselines", "Intervention": "intervention"}
    | dict.fromkeys(("intervene", "outputs_under", "trace_under"), "intervening")
    | dict.fromkeys(("Ablation", "ablation", "scaled_gates", "step_interventions", "unit_interventions"), "ablations")
    | dict.fromkeys(("Decodability", "decodability"), "decoding")
    | dict.fromkeys(("Dependency", "dependency"), "dependencies")
    | dict.fromkeys(("UnitDifferences", "unit_differences"), "differences")
    | dict.fromkeys(("Handover", "Relay", "Stretch", "relay"), "relays")
    | dict.fromkeys(("Extreme", "ExtremeInputs", "extreme_inputs"), "extremes")
    | dict.fromkeys(("FixedPoints", "SlowPoints", "fixed_points"), "fixed_point_search")
    | dict.fromkeys(("LyapunovSpectrum", "lyapunov_spectrum"), "lyapunov")
    | dict.fromkeys(("EffectiveMemory", "effective_memory"), "memory_length")
    | {"rest_state": "rest_states", "figures": "figures"},
)
