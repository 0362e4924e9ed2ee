import { expect, test } from "vitest";
import { latestOnly } from "../src/ui/latest";

test("one at a time, and of what is asked for meanwhile only the latest", async () => {
  let setting = 0;
  const [begun, shown]: [number[], number[]] = [[], []];
  const ends: (() => void)[] = [];
  const ask = latestOnly(async (current) => {
    const mine = setting;
    begun.push(mine);
    await new Promise<void>((end) => ends.push(end));
    if (current()) shown.push(mine);
  });
  const end = async (): Promise<void> => {
    ends.shift()?.();
    await new Promise((next) => setTimeout(next));
  };
  for (setting = 1; setting < 9; setting++) ask();
  expect(begun).toEqual([1]);
  await end();
  expect([begun, shown]).toEqual([[1, 9], []]);
  await end();
  expect([begun, shown]).toEqual([[1, 9], [9]]);
  expect(ends).toEqual([]);
  setting = 20;
  ask();
  await end();
  expect(shown).toEqual([9, 20]);
});
