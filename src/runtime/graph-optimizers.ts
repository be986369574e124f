/** Graph optimizers of ONNX Runtime 1.30 that can be disabled, by the runtime's names; it ignores unknown ones. */

/** It would merge what is recomputed for the backward pass with the original, which would then be held in memory. */
const HARMFUL = ["CommonSubexpressionElimination"];

/**
 * On the CPU these change one node in three hundred of a step, nothing that makes it faster, and take three quarters
 * of the time to open it: each goes through the whole graph. What stays enabled is of use: the fusion of transposes
 * into matrix products.
 */
const USELESS = [
  "AttentionFusion",
  "Avx2WeightS8ToU8Transformer",
  "BiasDropoutFusion",
  "BiasGeluFusion",
  "BiasSkipLayerNormFusion",
  "BiasSoftmaxFusion",
  "CastChainElimination",
  "ConstantFolding",
  "ConstantFoldingDQ",
  "ConstantSharing",
  "ConvActivationFusion",
  "ConvAddActivationFusion",
  "DoubleQDQPairsRemover",
  "DQMatMulNBitsFusion",
  "DynamicQuantizeMatMulFusion",
  "EmbedLayerNormFusion",
  "EnsureUniqueDQForNodeUnit",
  "FastGeluFusion",
  "FuseFp16InitializerToFp32NodeTransformer",
  "GatherSliceToSplitFusion",
  "GatherToSliceFusion",
  "GeluFusionL1",
  "GeluFusionL2",
  "GemmActivationFusion",
  "GemmSumFusion",
  "GroupQueryAttentionFusion",
  "GroupQueryAttentionPreNormFusion",
  "LabelEncoderFusion",
  "LayerNormFusionL1",
  "LayerNormFusionL2",
  "Level1_RuleBasedTransformer",
  "Level2_RuleBasedTransformer",
  "LookupTableArrayTransformer",
  "MatMulActivationFusion",
  "MatMulIntegerToFloatFusion",
  "MatMulNBitsFusion",
  "MatMulNBitsMlpFusion",
  "MatMulNBitsQkvFusion",
  "NchwcTransformer",
  "NhwcTransformer",
  "QDQFinalCleanupTransformer",
  "QDQPropagationTransformer",
  "QDQS8ToU8Transformer",
  "QDQSelectorActionTransformer",
  "QuickGeluFusion",
  "RemoveDuplicateCastTransformer",
  "ReshapeFusion",
  "SimplifiedLayerNormFusion",
  "SkipLayerNormFusion",
  "SliceConcatToSpaceToDepthFusion",
  "TransposeOptimizer",
  "TransposeOptimizer_CPUExecutionProvider",
  "WeightBiasQuantization",
  "WhereDummyDq",
];

/** The optimizers to disable for a graph that is to run as it is written, or whose constants are not to be folded. */
export const disabledOn = (provider: string, asWritten: boolean, folded: boolean): readonly string[] => [
  ...(asWritten ? [...HARMFUL, ...(provider === "cpu" ? USELESS : [])] : []),
  ...(folded ? [] : ["ConstantFolding"]),
];
