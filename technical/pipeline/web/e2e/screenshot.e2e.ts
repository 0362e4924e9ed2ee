import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { choose, similarity, visit, type Visit } from "./browser";
import { photo, SHOTS } from "./setting";

const WIDTH = 1000;

let seen: Visit;

beforeAll(async () => {
  seen = await visit();
});
afterAll(async () => {
  expect(seen.troubles).toEqual([]);
  await seen.close();
});

test("the picture in the README: a face at 16 pixels, compared and identified", async () => {
  const { page } = seen;
  await page.setViewportSize({ width: WIDTH, height: 900 });
  for (const [name, file] of [["Bob", "b_1.png"], ["Ann", "a_2.jpg"]] as const) {
    await choose(page, "second", photo(file));
    await page.selectOption("#person-source", "1");
    await page.fill("#person-name", name);
    await page.keyboard.press("Enter");
    await page.locator("#people .note", { hasText: `${name} is enrolled` }).waitFor();
  }
  await choose(page, "first", photo("a_1.jpg"));
  await page.fill("#size", "16");
  await similarity(page, 16);
  await page.selectOption("#person-source", "0");
  await page.locator("#people button", { hasText: "Who is this?" }).click();
  await page.locator(".found li").waitFor();
  const bottom = await page.evaluate(() => document.querySelector(".columns")!.getBoundingClientRect().bottom + scrollY);
  const height = Math.ceil(bottom) + 16;
  await page.setViewportSize({ width: WIDTH, height }); // a screenshot of more than the window may come half painted
  await page.evaluate(() => {
    (document.activeElement as HTMLElement).blur();
    scrollTo(0, 0);
  });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await page.screenshot({ path: join(SHOTS, "screenshot.png") });
});
