/** The rewritings of ONNX Runtime 1.30 that a graph may be spared, by the runtime's names; it ignores others. */

/** What is made again for the backward pass, to hold less in memory, is not to be made once and held. */
const HARMFUL = ["CommonSubexpressionElimination"];

/**
 * On the CPU these find one node in three hundred of a step, nothing that makes it faster, and take three quarters of the
 * time to open it: each goes through the whole graph. What is left of use is the fusion of transpositions into products.
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

/** What a graph is spared that is to run as it is written, or whose constants are not to be folded. */
export const sparedOn = (provider: string, asWritten: boolean, folded: boolean): readonly string[] => [
  ...(asWritten ? [...HARMFUL, ...(provider === "cpu" ? USELESS : [])] : []),
  ...(folded ? [] : ["ConstantFolding"]),
];
