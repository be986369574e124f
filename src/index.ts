/** The public API: all that the command line does. */
export { GRAPHS, prebuiltFolders } from "./api/artifacts.ts";
export { type Embedder, openAudioEncoder, openEmbedder } from "./api/audio-encoder.ts";
export { type Baseline, type Measured, readBaseline, writeBaseline } from "./api/baseline.ts";
export {
  type CheckOptions,
  type CheckResult,
  checkData,
  type FaultName,
} from "./api/check.ts";
export type { CopyGroup } from "./api/check-copies.ts";
export { type ClipsOptions, type ClipsResult, clips } from "./api/clips.ts";
export type { CostName } from "./api/cost.ts";
export { type DetectedImage, type DetectOptions, type DetectResult, detect } from "./api/detect.ts";
export { type DetectionScores, evaluateDetector } from "./api/detection-scores.ts";
export { type DetectorOptions, type OpenedDetector, openDetector } from "./api/detector.ts";
export { type EmbeddedFile, type EmbedFileOptions, embedToFile } from "./api/embed-file.ts";
export {
  checkEmbeddingFile,
  type Embedded,
  type OpenedEncoder,
  openEncoder,
  writeEmbedding,
} from "./api/encoder.ts";
export { type ExportOptions, type ExportResult, exportEncoder } from "./api/export.ts";
export { type FinetuneResult, finetune } from "./api/finetune.ts";
export { compareFinetuned, type FinetuneComparison } from "./api/finetune-compare.ts";
export type { FinetuneOptions } from "./api/finetune-start.ts";
export type { ForeignMetadata, ForeignOptions } from "./api/foreign.ts";
export { type Gate, hold, type Limits, type MeasureOptions, measure, refuseFailed } from "./api/gate.ts";
export { gateJunit, gateLines, gateMarkdown } from "./api/gate-report.ts";
export {
  type LayerScore,
  type ProbeKind,
  type ProbeOptions,
  type ProbeResult,
  type ProbesOptions,
  probe,
  probes,
  summaryOf,
  writeConfusion,
} from "./api/probe.ts";
export { type RankOptions, type RankResult, rank } from "./api/rank.ts";
export {
  type RankBaseline,
  type RankMeasured,
  readRankBaseline,
  writeRankBaseline,
} from "./api/rank-baseline.ts";
export { holdRank, type MeasureRankOptions, measureRank, type RankLimits } from "./api/rank-gate.ts";
export { type Recipe, recipes } from "./api/recipes.ts";
export type { Repeats } from "./api/repeat.ts";
export { type ReportOptions, type ReportResult, report } from "./api/report.ts";
export { type RetrievalOptions, type RetrievalResult, retrieval } from "./api/retrieval.ts";
export {
  type PixelClass,
  type SegmentationOptions,
  type SegmentationResult,
  segmentation,
} from "./api/segmentation.ts";
export { type Serving, serve } from "./api/serve.ts";
export type { Surroundings } from "./api/surroundings.ts";
export { type TrainResult, train } from "./api/train.ts";
export type { TrainOptions } from "./api/train-options.ts";
export { type WebOptions, type WebResult, web } from "./api/web.ts";
export type { ArtifactSpec } from "./artifact/artifact-spec.ts";
export { type CompiledArtifact, compile } from "./artifact/compile.ts";
export { type Artifact, readArtifact, writeArtifact } from "./artifact/files.ts";
export { findAudioPairs } from "./data/audio-pairs.ts";
export { findImages, findLabelledImages, type Sources } from "./data/sources.ts";
export { UserError } from "./errors.ts";
export type { Detections } from "./export/detections.ts";
export type { DetectorMetadata } from "./export/detector-metadata.ts";
export type { AudioMetadata, EncoderMetadata } from "./export/metadata.ts";
export type { ClassPrecision, PrecisionScores } from "./probe/average-precision.ts";
export type { Features } from "./probe/features.ts";
export type { AccuracyCheck, Check } from "./probe/gate.ts";
export type { ClassScore, Scores, Spread, TestImage } from "./probe/result.ts";
export type { Chance, Init, Least, Manifest, Schedule, StageEntry, StateEntry, ViewRecipe } from "./spec.ts";
