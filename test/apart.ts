/** Greatest difference over the greatest value, or over `least` if that is more. */
export const apart = (a: Float32Array, b: Float32Array, least = 1e-6): number => {
  const most = b.reduce((m, v) => Math.max(m, Math.abs(v)), least);
  return a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0) / most;
};
