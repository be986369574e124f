/** An encoder in a file of others: timm's or torchvision's tensors, whatever stands before their names. */
import { expected } from "../errors.ts";
import type { TensorData } from "../files/safetensors.ts";
import type { StateMap } from "../runtime/state.ts";
import type { StateEntry } from "../spec.ts";

/** What torchvision calls the parts of a vision transformer, and timm. The parts of a ResNet have one name in both. */
const TORCHVISION: readonly (readonly [theirs: RegExp, timms: string])[] = [
  [/\bclass_token$/, "cls_token"],
  [/\bconv_proj\./, "patch_embed.proj."],
  [/\bencoder\.pos_embedding$/, "pos_embed"],
  [/\bencoder\.ln\./, "norm."],
  [/\bencoder\.layers\.encoder_layer_(\d+)\.ln_([12])\./, "blocks.$1.norm$2."],
  [/\bencoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_/, "blocks.$1.attn.qkv."],
  [/\bencoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\./, "blocks.$1.attn.proj."],
  [/\bencoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\./, "blocks.$1.mlp.fc1."],
  [/\bencoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\./, "blocks.$1.mlp.fc2."],
];

/** Images of another size have others of these: a stem, and positions of patches. */
const OF_IMAGE_SIZE = ["conv1.weight", "patch_embed.proj.weight", "pos_embed"];
/** PyTorch counts batches beside the running statistics; with a momentum it has no use for the number. */
const COUNTER = ".num_batches_tracked";

export interface EncoderTensors {
  /** By timm's names. */
  readonly tensors: StateMap;
  /** What the file holds besides, such as a classifier, by its names there. */
  readonly left: readonly string[];
}

/**
 * @param wanted parameters and running statistics of the encoder, by timm's names
 * @param encoder its name
 * @param file names the file in errors
 * @throws UserError unless each is there, in its shape but for what depends on the size of images, and nothing else in
 *   the encoder's modules: a deeper network has all names of a shallower one.
 */
export function encoderTensors(
  all: StateMap,
  wanted: readonly StateEntry[],
  { encoder, file }: { readonly encoder: string; readonly file: string },
): EncoderTensors {
  const own = new Map(wanted.map((entry) => [entry.name, entry]));
  const modules = new Set(wanted.map(({ name }) => moduleOf(name)));
  const timms = new Map([...all].map(([name, tensor]) => [timmName(name), { name, tensor }]));
  const [prefix, second] = prefixesOf([...timms.keys()], own);
  if (prefix === undefined) {
    const [first] = all;
    const other = first ? `none, but ${first[0]} [${first[1].shape}]` : "none";
    throw expected(file, `tensors of ${encoder} by their names and shapes`, other);
  }
  if (second !== undefined)
    throw expected(file, "one encoder", `${prefix}* and ${second}*`, "save the tensors of one of them");
  const refuse = (name: string, wanted: string, found: string) =>
    expected(`${file}: ${name}`, `${wanted} ${encoder}`, found, "it is another encoder");
  const tensors = new Map<string, TensorData>();
  const left: string[] = [];
  for (const [timm, { name, tensor }] of timms) {
    if (timm.endsWith(COUNTER)) continue;
    const label = timm.startsWith(prefix) ? timm.slice(prefix.length) : undefined;
    const entry = label === undefined ? undefined : own.get(label);
    if (label === undefined || (!entry && !modules.has(moduleOf(label)))) left.push(name);
    else if (!entry) throw refuse(name, "no such tensor in", formOf(tensor));
    else if (formOf(tensor) !== formOf(entry) && !OF_IMAGE_SIZE.includes(label))
      throw refuse(name, `${formOf(entry)} of`, formOf(tensor));
    else tensors.set(label, tensor);
  }
  const missing = wanted.find(({ name }) => !tensors.has(name));
  if (missing) throw refuse(prefix + missing.name, `${formOf(missing)} of`, "none");
  return { tensors, left };
}

const timmName = (name: string): string =>
  TORCHVISION.reduce((changed, [theirs, timms]) => changed.replace(theirs, timms), name);

/** What stands before most of the encoder's names, such as "module.backbone."; several, if all stand after each of them. */
function prefixesOf(names: readonly string[], own: ReadonlyMap<string, unknown>): readonly string[] {
  const counts = new Map<string, number>();
  for (const name of names) {
    for (const { 0: dot, index } of name.matchAll(/^|\./g)) {
      const prefix = name.slice(0, index + dot.length);
      if (own.has(name.slice(prefix.length))) counts.set(prefix, (counts.get(prefix) ?? 0) + 1);
    }
  }
  const most = Math.max(...counts.values());
  const found = [...counts].flatMap(([prefix, count]) => (count === most ? [prefix] : []));
  return most === own.size ? found : found.slice(0, 1);
}

const moduleOf = (name: string): string => name.split(".", 1)[0]!;
const formOf = ({ dtype, shape }: Pick<TensorData, "dtype" | "shape">): string => `${dtype} [${shape}]`;
