import { defineConfig } from "vitest/config";

/** The built page in Chromium: `python -m pytest tests/pipeline/web/test_page.py`, which makes photos and models. */
export default defineConfig({
  test: { include: ["e2e/*.e2e.ts"], fileParallelism: false, testTimeout: 120_000, hookTimeout: 120_000 },
});
