import { expect } from "chai";
import { crc32c, tfRecord } from "../../src/files/tfrecord.ts";

describe("files/tfrecord", () => {
  it("has the checksums of RFC 3720", () => {
    const bytes = (value: (i: number) => number) => Uint8Array.from({ length: 32 }, (_, i) => value(i));
    expect(crc32c(bytes(() => 0))).to.equal(0x8a9136aa);
    expect(crc32c(bytes(() => 255))).to.equal(0x62a8ab43);
    expect(crc32c(bytes((i) => i))).to.equal(0x46dd794e);
    expect(crc32c(bytes((i) => 31 - i))).to.equal(0x113fdb5c);
    expect(crc32c(Buffer.from("123456789"))).to.equal(0xe3069283);
  });

  it("writes a record as TensorFlow does", () => {
    const written = (text: string) => tfRecord(Buffer.from(text)).toString("hex");
    expect(written("")).to.equal("000000000000000029039807d8ea82a2");
    expect(written("brain.Event:2")).to.equal("0d000000000000003c37b834627261696e2e4576656e743a32ee01067c");
    expect(written("x".repeat(24))).to.equal(`1800000000000000a37f4b22${"78".repeat(24)}8a63b6e6`);
  });
});
