import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { seriousFindings } from "./axe";
import { choose, load, similarity, visit, type Visit } from "./browser";
import { expected, photo, SHOTS } from "./setting";

let seen: Visit;
let page: Page;

beforeAll(async () => {
  seen = await visit(photo("webcam.mjpeg"));
  page = seen.page;
});
afterAll(async () => {
  expect(seen.troubles).toEqual([]);
  await seen.close();
});

async function smaller(size: number, which = "first"): Promise<void> {
  await page.selectOption("#which", which);
  await page.fill("#size", String(size));
}

test("is ready in under ten seconds, and agrees with Python", async () => {
  const taken = [seen.seconds];
  while (Math.min(...taken) >= 10 && taken.length < 3) taken.push(await load(page, seen.address));
  const busy = loadavg()[0] / availableParallelism();
  console.log(`ready after ${taken.map((one) => one.toFixed(1)).join(", ")} s; ${busy.toFixed(1)} programs run a core`);
  // Where others take the processor, nothing can be said about the page.
  if (busy < 2) expect(Math.min(...taken)).toBeLessThan(10);
  expect(Number(/cosine ([\d.]+)/.exec((await page.textContent("#models")) ?? "")?.[1])).toBeGreaterThan(0.999);
});

describe("two photos", () => {
  test.each(expected.pairs)("$files: $answer", async ({ files, score, answer }) => {
    await choose(page, "first", photo(files[0]));
    await choose(page, "second", photo(files[1]));
    const verdict = { same: "The same person", different: "Two people", "cannot tell": "Cannot tell" }[answer];
    await page.locator("#answer:not([aria-busy]) .verdict", { hasText: verdict ?? answer }).waitFor();
    const shown = Number(await page.textContent(".score b"));
    expect(Math.abs(shown - score)).toBeLessThan(0.02);
  });

  test("of several faces one is picked with the keyboard", async () => {
    await choose(page, "second", photo("group.png"));
    const choices = page.locator("#second input[type=radio]");
    expect(await choices.count()).toBe(2);
    const before = await page.textContent(".score b");
    await choices.nth((await choices.first().isChecked()) ? 0 : 1).focus();
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction((was) => document.querySelector(".score b")?.textContent !== was, before);
  });

  test("what is no photo is refused by name", async () => {
    await page.setInputFiles("#first-file", { name: "page.png", mimeType: "image/png", buffer: Buffer.from("<svg/>") });
    await page.locator("#first .note", { hasText: "page.png is not a PNG" }).waitFor();
    const broken = Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 16, 1, 2, 3]);
    await page.setInputFiles("#first-file", { name: "broken.jpg", mimeType: "image/jpeg", buffer: broken });
    await page.locator("#first .note", { hasText: "broken.jpg is truncated or damaged" }).waitFor();
    await page.locator("#answer", { hasText: "Still needed" }).waitFor();
  });

  test("a photo without a face says so", async () => {
    await choose(page, "first", photo("nobody.png"));
    expect(await page.textContent("#first .note")).toContain("no face found");
  });

  test("the photo shown is looked at again as an aligned face, and as a photo", async () => {
    await choose(page, "first", photo("group.png"));
    await page.check("#first-aligned");
    await page.locator("#first .note", { hasText: "an aligned face is square" }).waitFor();
    await page.uncheck("#first-aligned");
    await page.locator("#first .note", { hasText: /^group\.png, .*: 2 faces\.$/ }).waitFor();
    await choose(page, "first", photo("a_1_aligned.png"));
    await page.check("#first-aligned");
    await page.locator("#first .note", { hasText: /^a_1_aligned\.png, .*: one face\.$/ }).waitFor();
    await page.uncheck("#first-aligned");
  });

  test("what is dropped beside a slot is not opened in place of the page", async () => {
    const refused = await page.evaluate(() => {
      const dropped = new DataTransfer();
      dropped.items.add(new File(["x"], "x.png", { type: "image/png" }));
      const refuses = (element: Element, dataTransfer: DataTransfer): boolean[] =>
        ["dragover", "drop"].map((kind) => {
          return !element.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer }));
        });
      const field = document.querySelector("#person-name")!;
      return [...refuses(document.body, dropped), ...refuses(field, dropped), ...refuses(field, new DataTransfer())];
    });
    expect(refused).toEqual([true, true, true, true, false, false]);
  });
});

describe("one face at 16 pixels", () => {
  test("with the DSR on and off", async () => {
    await choose(page, "first", photo("a_1.jpg"));
    await choose(page, "second", photo("a_2.jpg"));
    await smaller(16);
    const withDsr = await similarity(page, 16);
    expect(await page.locator(".triptych canvas").count()).toBe(3);
    const shown = await page.$$eval(".triptych canvas", (all) => all.map((one) => (one as HTMLCanvasElement).width));
    expect(shown).toEqual([16, 112, 112]);
    await page.locator("#dsr").focus();
    await page.keyboard.press("Space");
    await page.waitForFunction((was) => Number(document.querySelector(".score b")?.textContent) !== was, withDsr);
    const [bicubic, dsr] = await page.$$eval("#answer td", (all) => all.map((one) => Number(one.textContent)));
    expect([dsr, await similarity(page, 16)]).toEqual([withDsr, bicubic]);
    await page.check("#dsr");
  });

  test("the slider goes down to 8 by the keyboard, and the curve marks the size", async () => {
    await page.locator("#size").focus();
    await page.keyboard.press("Home");
    await similarity(page, 8);
    expect(await page.getAttribute("#size", "aria-valuetext")).toBe("8 pixels");
    await page.locator("#curve text.now", { hasText: "8 pixels now" }).waitFor();
    expect(await page.textContent("#answer .verdict")).toContain("Cannot tell"); // below the smallest calibrated size
    await smaller(24, "both");
    await similarity(page, 24);
    expect(await page.locator(".triptych").count()).toBe(2);
    await page.locator("#curve", { hasText: "two small faces" }).waitFor();
  });

  test("a slider that is dragged has one answer computed at a time, and the last one shown", async () => {
    await smaller(24);
    await similarity(page, 24);
    const asked = await page.evaluate(async () => {
      const { engine } = globalThis.dsrEdgeface;
      const upscale = engine.upscale.bind(engine);
      let count = 0;
      engine.upscale = (pixels) => (count++, upscale(pixels));
      const slider = document.querySelector<HTMLInputElement>("#size")!;
      for (let size = 40; size >= 17; size--) {
        slider.value = String(size);
        slider.dispatchEvent(new Event("input", { bubbles: true }));
      }
      const busy = document.querySelector("#answer")!.getAttribute("aria-busy");
      while (document.querySelector("#answer")!.hasAttribute("aria-busy")) {
        await new Promise((next) => setTimeout(next, 20));
      }
      engine.upscale = upscale;
      return { busy, count };
    });
    expect(asked.busy).toBe("true");
    expect(asked.count).toBeLessThanOrEqual(2); // the first size and the last
    await similarity(page, 17);
  });
});

describe("the webcam", () => {
  test("gives a picture with a face, and is switched off", async () => {
    await page.fill("#size", "65");
    await page.locator("#first button", { hasText: "Webcam" }).click();
    await page.locator("#camera-take:not([disabled])").waitFor();
    await page.locator("#camera-note", { hasText: "In view: one face" }).waitFor();
    await page.screenshot({ path: join(SHOTS, "webcam.png") });
    await page.keyboard.press("Enter"); // the button has the focus
    await page.locator("#first .note", { hasText: "The webcam's picture" }).waitFor();
    await page.waitForSelector("#first:not([aria-busy])");
    expect(await page.textContent("#first .note")).toContain("one face");
    expect(await page.evaluate(() => (document.querySelector("video") as HTMLVideoElement).srcObject)).toBeNull();
  });

  test("is followed when it is turned", async () => {
    await page.locator("#first button", { hasText: "Webcam" }).click();
    await page.locator("#camera-note", { hasText: "In view" }).waitFor();
    await page.evaluate(() => {
      const video = document.querySelector("video")!;
      Object.defineProperty(video, "videoWidth", { value: 480, configurable: true });
      Object.defineProperty(video, "videoHeight", { value: 640, configurable: true });
    });
    await page.waitForFunction(() => {
      const { width, height } = document.querySelector<HTMLCanvasElement>("#camera-boxes")!;
      return width === 480 && height === 640;
    });
    await page.evaluate(() => {
      const video = document.querySelector("video") as { videoWidth?: number; videoHeight?: number };
      delete video.videoWidth; // of this one element: its class has them still
      delete video.videoHeight;
    });
    await page.keyboard.press("Escape");
    expect(await page.locator("#camera").isVisible()).toBe(false);
  });

  test("may be closed without a picture", async () => {
    await page.locator("#second button", { hasText: "Webcam" }).click();
    await page.keyboard.press("Escape");
    expect(await page.locator("#camera").isVisible()).toBe(false);
  });
});

describe("without the network", () => {
  test("everything goes on working, and no request is made", async () => {
    await seen.context.setOffline(true);
    const requests: string[] = [];
    page.on("request", (request) => requests.push(request.url()));
    await choose(page, "first", photo("a_1.jpg"));
    await choose(page, "second", photo("a_2.jpg"));
    await smaller(16);
    await similarity(page, 16);
    expect(requests.filter((url) => !url.startsWith("blob:"))).toEqual([]);
    await page.locator("#proof", { hasText: "Requests since then: 0. The network is cut" }).waitFor();
  });

  test("people are enrolled, identified and forgotten", async () => {
    await page.fill("#size", "65");
    for (const [source, name] of [["0", "Ann"], ["1", "Ann"]] as const) {
      await page.selectOption("#person-source", source);
      await page.fill("#person-name", name);
      await page.keyboard.press("Enter");
      await page.locator("#people .note", { hasText: "Ann is enrolled" }).waitFor();
    }
    await choose(page, "first", photo("b_1.png"));
    await page.selectOption("#person-source", "0");
    await page.fill("#person-name", "Bob <b>");
    await page.locator("#people button", { hasText: "Enrol" }).click();
    await page.locator("#people .people", { hasText: "Bob <b>" }).waitFor();
    await choose(page, "first", photo("group.png"));
    await page.locator("#people button", { hasText: "Who is this?" }).click();
    await page.locator("#people .note", { hasText: "2 faces looked up" }).waitFor();
    const answers = (await page.locator(".found li").allTextContents()).join(" ");
    expect(answers).toMatch(/: Ann\./);
    expect(answers).toMatch(/: Bob <b>\./);
    await shots();
    await page.locator("button[aria-label='Forget Ann']").click();
    expect(await page.locator(".people li").count()).toBe(1);
    await seen.context.setOffline(false);
  });

  test("one press of Enter enrols, and the next name may be typed at once", async () => {
    await page.fill("#person-name", "Cleo");
    const left = await page.evaluate(() => {
      const field = document.querySelector<HTMLInputElement>("#person-name")!;
      const press = (more: KeyboardEventInit): void => {
        field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, ...more }));
      };
      press({ repeat: true });
      press({ isComposing: true });
      const before = field.value;
      press({});
      const after = field.value;
      field.value = "Dan";
      return [before, after];
    });
    expect(left).toEqual(["Cleo", ""]);
    await page.locator("#people .note", { hasText: "Cleo is enrolled" }).waitFor();
    expect(await page.inputValue("#person-name")).toBe("Dan");
    await page.locator(".people li", { hasText: "Cleo" }).getByText("one face").waitFor();
  });
});

/** Pictures of the whole page, small and wide, light and dark; and what axe finds in each. */
async function shots(): Promise<void> {
  await choose(page, "first", photo("a_1.jpg"));
  await smaller(16);
  await similarity(page, 16);
  await page.locator("#people button", { hasText: "Who is this?" }).click();
  await page.locator(".found li").waitFor();
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  for (const scheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [390, 1400]) {
      await page.setViewportSize({ width, height: 900 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      expect(wide, `${width} pixels, ${scheme}: something is cut off`).toBeLessThanOrEqual(width);
      const height = await page.evaluate(() => document.documentElement.scrollHeight);
      await page.setViewportSize({ width, height }); // a screenshot of more than the window may come half painted
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      await page.screenshot({ path: join(SHOTS, `page_${width}_${scheme}.png`) });
    }
    const serious = await seriousFindings(page);
    expect(serious, `axe, ${scheme}`).toEqual([]);
  }
}
