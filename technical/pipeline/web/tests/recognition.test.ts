import { describe, expect, test } from "vitest";
import { compare, FacePreparer, type Networks } from "../src/recognition/comparison";
import { cosine, Gallery, unit, type EmbeddedFace } from "../src/recognition/gallery";
import { decide } from "../src/recognition/thresholds";
import { blankImage } from "../src/vision/image";
import type { Face } from "../src/vision/crops";
import { numbers } from "./numbers";

test.each(numbers.decisions)("Python's verdict: $verdict.reason", ({ table, score, faces, verdict }) => {
  const found = decide(score, ...faces, table);
  expect(found.answer).toBe(verdict.answer);
  expect(found.reason).toBe(verdict.reason);
  expect([found.resolution, found.calibrated]).toEqual([verdict.resolution, verdict.calibrated]);
  for (const [value, wanted] of [[found.accept, verdict.threshold], [found.reject, verdict.reject]] as const) {
    if (wanted === null) expect(value).toBeNull();
    else expect(value).toBeCloseTo(wanted, 12);
  }
  expect(found.notes.map((note) => note.split(";")[0])).toEqual(verdict.notes);
});

test("NaN is no score", () => {
  const face = { resolution: 20, byDsr: true };
  expect(() => decide(NaN, face, face, null)).toThrow("NaN");
});

function faceOf(resolution: number): Face {
  return { box: null, landmarks: null, detection: null, resolution, byDsr: false };
}

function embedded(...direction: number[]): EmbeddedFace {
  return { face: faceOf(112), embedding: unit(Float32Array.from(direction)) };
}

describe("gallery of a visit", () => {
  test("a person counts once, with the best face; the best person first", () => {
    const gallery = new Gallery();
    gallery.enrol(" Ann ", embedded(1, 0, 0));
    gallery.enrol("Ann", embedded(0, 1, 0));
    gallery.enrol("Bob", embedded(0, 0, 1));
    expect(gallery.names).toEqual(["Ann", "Bob"]);
    expect(gallery.faces("Ann")).toBe(2);
    const found = gallery.identify(embedded(0, 0.9, 0.5), null);
    expect(found?.name).toBe("Ann");
    expect(found?.candidates.map((one) => one.name)).toEqual(["Ann", "Bob"]);
  });

  test("a stranger stays unknown, and who is forgotten is not found", () => {
    const gallery = new Gallery();
    expect(gallery.identify(embedded(1, 0), null)).toBeNull();
    gallery.enrol("Ann", embedded(1, 0));
    expect(gallery.identify(embedded(-1, 0.1), null)?.name).toBeNull();
    gallery.delete("Ann");
    expect(gallery.identify(embedded(1, 0), null)).toBeNull();
  });

  test.each(["", "  ", "x".repeat(201)])("the name '%s' is refused", (name) => {
    expect(() => new Gallery().enrol(name, embedded(1))).toThrow("from 1 to 200");
  });

  test("an embedding of zeros is refused", () => {
    expect(() => unit(new Float32Array(4))).toThrow("zero");
    expect(cosine(unit(Float32Array.of(3, 4)), unit(Float32Array.of(4, 3)))).toBeCloseTo(0.96, 6);
  });
});

describe("a face made smaller", () => {
  const asked: string[] = [];
  const restored = blankImage(112, 112);
  const networks: Networks = {
    embed: (pixels) => {
      const way = pixels === restored ? "dsr" : "other";
      asked.push(`${way} ${pixels.width}`);
      return Promise.resolve(way === "dsr" ? Float32Array.of(1, 0) : Float32Array.of(0.6, 0.8));
    },
    upscale: () => Promise.resolve(restored),
  };
  const found = { face: faceOf(40), pixels: blankImage(112, 112), aligned: blankImage(112, 112) };

  test("goes both ways, once", async () => {
    const preparer = new FacePreparer(networks);
    const small = await preparer.prepare(found, 16);
    expect(await preparer.prepare(found, 16)).toBe(small);
    expect(asked.splice(0)).toEqual(["other 112", "dsr 112"]);
    expect(small.small?.low.width).toBe(16);
    expect(small.ways.dsr.face).toMatchObject({ resolution: 16, byDsr: true });
    expect(small.ways.bicubic.face).toMatchObject({ resolution: 16, byDsr: false });
  });

  test("is tried again after a failure", async () => {
    let failures = 1;
    const preparer = new FacePreparer({
      ...networks,
      upscale: (pixels) => (failures-- > 0 ? Promise.reject(new Error("device lost")) : networks.upscale(pixels)),
    });
    await expect(preparer.prepare(found, 16)).rejects.toThrow("device lost");
    expect((await preparer.prepare(found, 16)).small?.low.width).toBe(16);
    asked.length = 0;
  });

  test("is not made larger than the photo has it", async () => {
    const whole = await new FacePreparer(networks).prepare(found, 50);
    expect(asked.splice(0)).toEqual(["other 112"]);
    expect(whole.small).toBeNull();
    expect(whole.ways.dsr.face.resolution).toBe(40);
    expect(compare(whole, whole, "dsr", null).scores).toBeNull();
  });

  test("the way decides the score", async () => {
    const preparer = new FacePreparer(networks);
    const [small, whole] = [await preparer.prepare(found, 16), await preparer.prepare(found, null)];
    expect(compare(small, whole, "dsr", null).verdict.score).toBeCloseTo(0.6);
    expect(compare(small, whole, "bicubic", null).verdict.score).toBeCloseTo(1);
  });
});
