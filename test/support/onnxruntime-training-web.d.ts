/** ONNX Runtime for the web as it was when it still had a training build; the package's own types bear another name. */
declare module "onnxruntime-training-web" {
  export { env, InferenceSession, Tensor } from "onnxruntime-common";
}
