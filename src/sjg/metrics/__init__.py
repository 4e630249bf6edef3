"""Quality of a segmentation: arrays in, numbers out."""

from __future__ import annotations

from sjg.metrics._aggregated_jaccard import aggregated_jaccard
from sjg.metrics._calibration import Reliability, calibration_error, reliability
from sjg.metrics._calling import cell_calling_score
from sjg.metrics._instances import InstanceMatches, f1_at_iou, instance_iou, matched_instances, panoptic_quality
from sjg.metrics._overlap import Overlap, label_overlap
from sjg.metrics._purity import coexpression_rate, negative_marker_purity
from sjg.metrics._reference_genes import exclusive_pairs, expressing_fraction, negative_markers, poisson_expressing_fraction
from sjg.metrics._seams import fraction_cut_at_lines
from sjg.metrics._segmentation_scores import segmentation_scores
from sjg.metrics._transcripts import TranscriptAssignment, right_transcripts, transcript_assignment, transcript_jaccard

__all__ = [
    "InstanceMatches",
    "Overlap",
    "Reliability",
    "TranscriptAssignment",
    "aggregated_jaccard",
    "calibration_error",
    "cell_calling_score",
    "coexpression_rate",
    "exclusive_pairs",
    "expressing_fraction",
    "f1_at_iou",
    "fraction_cut_at_lines",
    "instance_iou",
    "label_overlap",
    "matched_instances",
    "negative_marker_purity",
    "negative_markers",
    "panoptic_quality",
    "poisson_expressing_fraction",
    "reliability",
    "right_transcripts",
    "segmentation_scores",
    "transcript_assignment",
    "transcript_jaccard",
]
