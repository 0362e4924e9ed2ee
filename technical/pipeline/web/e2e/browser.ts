/** Debian's Chromium with a profile of its own, the built page in it, and what went wrong there. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type BrowserContext, type Page } from "playwright-core";
import { serve, type Served } from "./serve";
import { ADDRESS, DIST, MODELS } from "./setting";

const FLAGS = [
  ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
  ...["--disable-component-update", "--disable-sync"],
  ...["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
];

export interface Visit {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly address: string;
  /** Errors of scripts and of the policy, and requests to anywhere else. */
  readonly troubles: string[];
  /** Seconds from the address to being ready. */
  readonly seconds: number;
  close(): Promise<void>;
}

/** The page, opened and ready. `film` is what the webcam shows (a .y4m or .mjpeg file); `query` is for the address. */
export async function visit(film?: string, flags: readonly string[] = [], query = ""): Promise<Visit> {
  const served = ADDRESS === null ? await serve(DIST, MODELS) : { address: ADDRESS, close: () => Promise.resolve() };
  const profile = mkdtempSync(join(tmpdir(), "chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    headless: true,
    viewport: { width: 1400, height: 900 },
    args: [...FLAGS, ...flags, ...(film === undefined ? [] : [`--use-file-for-fake-video-capture=${film}`])],
  });
  const page = await context.newPage();
  const troubles = watch(page, served);
  const seconds = await load(page, served.address + query);
  return {
    page,
    context,
    address: served.address,
    troubles,
    seconds,
    close: async () => {
      await context.close();
      await served.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** Open the page and wait until it is ready: in so many seconds. */
export async function load(page: Page, address: string): Promise<number> {
  const began = performance.now();
  await page.goto(address);
  await page.waitForSelector("html[data-ready], #failure:not([hidden])", { timeout: 100_000 });
  const failure = (await page.textContent("#failure")) ?? "";
  if (failure !== "") throw new Error(failure);
  return (performance.now() - began) / 1000;
}

function watch(page: Page, served: Served): string[] {
  const troubles: string[] = [];
  page.on("pageerror", (error) => troubles.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") troubles.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(served.address) && !url.startsWith("blob:")) troubles.push(`request to ${url}`);
  });
  return troubles;
}

/** Choose a photo, and wait until its faces are shown. */
export async function choose(page: Page, slot: "first" | "second", file: string): Promise<void> {
  await page.setInputFiles(`#${slot}-file`, file);
  await page.waitForSelector(`#${slot}:not([aria-busy]) .note`);
  await page.waitForFunction((id) => !document.querySelector(`#${id} .note`)?.textContent?.startsWith("Looking"), slot);
}

/** The similarity shown, once it is of the setting chosen, and for `pixels`. */
export async function similarity(page: Page, pixels: number): Promise<number> {
  const score = page.locator("#answer:not([aria-busy]) .score", { hasText: `at ${pixels} pixels` });
  await score.waitFor();
  return Number(await score.locator("b").textContent());
}
