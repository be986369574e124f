/** A frozen encoder that sees random views, drawn and made as in training, in place of the centres of images. */
import { expected } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { decodeModel, encodeModel } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../spec.ts";
import { augment } from "../views/augment.ts";

/** The scope of an encoder's nodes that cut out and normalise the centre of an image. */
const CENTRE = "view/";

/**
 * The encoder for views of a recipe, as large as its own centres: images uint8 [n, h, w, 3], each in its top left corner,
 * and view float32 [n, columns] -> features [n, d].
 * @param encoder the bytes of an encoder.onnx, named `where` in errors
 * @throws UserError if what prepares its images cannot be told from the rest.
 */
export function encoderOfViews(encoder: Uint8Array, recipe: ViewRecipe, where: string): Uint8Array {
  const model = decodeModel(encoder);
  const graph = model.graph!;
  const isCentre = new Set(graph.node.filter(({ name }) => name.startsWith(CENTRE)));
  const rest = graph.node.filter((node) => !isCentre.has(node));
  const ofCentre = new Set([...isCentre].flatMap(({ output }) => output));
  const [seen, ...more] = new Set(rest.flatMap((node) => node.input.filter((name) => ofCentre.has(name))));
  if (seen === undefined || more.length > 0)
    throw expected(where, "an encoder that this version exported", "another", "export the run again");

  const images = input("images", "uint8", ["n", "h", "w", 3]);
  const params = input("view", "float32", ["n", VIEW_COLUMNS.length]);
  const [view] = augment(images, [params], [recipe]); // [n, 3, s, s]
  const views = buildModel({ made: view! }, { name: "views", inputs: [images, params] }).graph!;
  const known: Readonly<Record<string, string>> = { "": "", images: "images", view: "view", made: seen };
  const renamed = (name: string) => known[name] ?? `views/${name}`;
  for (const node of views.node) {
    node.name = `views/${node.name}`;
    node.input = node.input.map(renamed);
    node.output = node.output.map(renamed);
  }
  for (const tensor of views.initializer) tensor.name = renamed(tensor.name);
  graph.node = [...views.node, ...rest];
  const used = new Set(rest.flatMap((node) => node.input));
  graph.initializer = [...views.initializer, ...graph.initializer.filter(({ name }) => used.has(name))];
  graph.input = views.input;
  graph.valueInfo = graph.valueInfo.filter(({ name }) => !ofCentre.has(name) || name === seen);
  return encodeModel(model);
}
