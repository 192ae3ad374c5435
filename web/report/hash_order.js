// The order of sequences by a hash of their values, and halves by that order: glasscell/explain/samples.py.
//
// BLAKE2b (RFC 7693) with a key, the digits of a seed, and 16 bytes, of the values of a sequence in the type of the model.
// A 64-bit word is two numbers, the lower half first.

const IV = Uint32Array.of(
  0xf3bcc908, 0x6a09e667, 0x84caa73b, 0xbb67ae85, 0xfe94f82b, 0x3c6ef372, 0x5f1d36f1, 0xa54ff53a,
  0xade682d1, 0x510e527f, 0x2b3e6c1f, 0x9b05688c, 0xfb41bd6b, 0x1f83d9ab, 0x137e2179, 0x5be0cd19,
);
const SIGMA = [
  "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d", "2c6a0b834d75fe19",
  "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
].map((row) => Array.from(row, (digit) => parseInt(digit, 16)));
const [BLOCK, DIGEST] = [128, 16]; // bytes
const v = new Uint32Array(32);

function add(a, low, high) {
  const sum = v[a] + low;
  v[a + 1] += high + Number(sum > 0xffffffff);
  v[a] = sum;
}

/** v[a] = (v[a] ^ v[b]) rotated to the right by 32, 24, 16 or 63 bits. */
function turn(a, b, bits) {
  const [low, high] = [v[a] ^ v[b], v[a + 1] ^ v[b + 1]];
  const [x, y] = bits < 32 ? [low, high] : [high, low];
  const shift = bits % 32;
  v[a] = shift ? (x >>> shift) | (y << (32 - shift)) : x;
  v[a + 1] = shift ? (y >>> shift) | (x << (32 - shift)) : y;
}

function mix(a, b, c, d, m, x, y) {
  for (const [word, first, second] of [[x, 32, 24], [y, 16, 63]]) {
    add(a, v[b], v[b + 1]);
    add(a, m[2 * word], m[2 * word + 1]);
    turn(d, a, first);
    add(c, v[d], v[d + 1]);
    turn(b, c, second);
  }
}

function compress(h, bytes, from, count, isLast) {
  const block = new Uint8Array(BLOCK);
  block.set(bytes.subarray(from, from + BLOCK));
  const m = new Uint32Array(block.buffer); // the machines of browsers have the lower byte first
  v.set(h);
  v.set(IV, 16);
  v[24] ^= count;
  if (isLast) for (const k of [28, 29]) v[k] = ~v[k];
  for (let round = 0; round < 12; round++) {
    const s = SIGMA[round % 10];
    for (let k = 0; k < 4; k++) mix(2 * k, 8 + 2 * k, 16 + 2 * k, 24 + 2 * k, m, s[2 * k], s[2 * k + 1]);
    for (let k = 0; k < 4; k++) {
      const [b, c, d] = [1, 2, 3].map((shift) => 2 * ((k + shift) % 4));
      mix(2 * k, 8 + b, 16 + c, 24 + d, m, s[8 + 2 * k], s[9 + 2 * k]);
    }
  }
  for (let k = 0; k < 16; k++) h[k] ^= v[k] ^ v[k + 16];
}

/** The digest of bytes, in hexadecimal digits. */
export function digestOf(bytes, seed = 0) {
  const key = new TextEncoder().encode(String(seed));
  const h = IV.slice();
  h[0] ^= 0x01010000 ^ (key.length << 8) ^ DIGEST;
  const all = new Uint8Array(BLOCK + bytes.length);
  all.set(key);
  all.set(bytes, BLOCK);
  for (let from = 0; from < all.length; from += BLOCK) {
    compress(h, all, from, Math.min(from + BLOCK, all.length), from + BLOCK >= all.length);
  }
  return Array.from(new Uint8Array(h.buffer, 0, DIGEST), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The numbers of sequences x (rows, N) in the order of their digests, and these. */
export function hashOrder(x, N, dtype, seed = 0) {
  const rows = x.length / N;
  const values = dtype === "float64" ? new Float64Array(rows) : new Float32Array(rows);
  const digests = Array.from({ length: N }, (_, n) => {
    for (let row = 0; row < rows; row++) values[row] = x[row * N + n];
    return digestOf(new Uint8Array(values.buffer), seed);
  });
  const order = Array.from(digests, (_, n) => n).sort((a, b) => (digests[a] < digests[b] ? -1 : Number(digests[a] > digests[b])));
  return { order, digests };
}

/**
 * Two halves {fitted, scored}, of about one size: the first sequences in the order, and the others. Equal sequences are
 * in one half.
 */
export function halvesOf({ order, digests }) {
  const N = order.length;
  const starts = order.flatMap((n, k) => (k && digests[n] !== digests[order[k - 1]] ? [k] : []));
  const middle = starts.reduce((best, k) => (Math.abs(2 * k - N) < Math.abs(2 * best - N) ? k : best), starts[0] ?? N);
  const ascending = (numbers) => numbers.sort((a, b) => a - b);
  return { fitted: ascending(order.slice(0, middle)), scored: ascending(order.slice(middle)) };
}
