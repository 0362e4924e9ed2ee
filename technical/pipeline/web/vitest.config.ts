import { defineConfig } from "vitest/config";

/** The maths, against numbers that Python wrote: `python -m pytest tests/pipeline/web/test_maths.py`. */
export default defineConfig({
  test: { include: ["tests/*.test.ts"], pool: "threads", maxWorkers: 1, testTimeout: 120_000 },
});
