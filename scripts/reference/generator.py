"""Values generated from names alone: test/methods/parity.ts makes the same."""


class Generator:
    """Xorshift (Marsaglia 2003) of 32 bits, seeded by a name (FNV-1a)."""

    def __init__(self, name):
        state = 0x811C9DC5
        for byte in name.encode():
            state = (state ^ byte) * 0x01000193 & 0xFFFFFFFF
        self.state = state or 1
        for _ in range(8):
            self.next()

    def next(self):
        x = self.state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.state = x
        return x >> 16

    def value(self):
        """A multiple of 2^-15 in [-1, 1)."""
        return self.next() / 32768 - 1

    def shuffled(self, items):
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.next() % (i + 1)
            out[i], out[j] = out[j], out[i]
        return out
