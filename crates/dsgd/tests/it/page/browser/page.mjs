// A browser before the page. Called as: node page.mjs SCENARIO URL, it looks, writes what it sees on
// standard output, a JSON record a line, and ends with 1 and words when something is not as it should
// be. CHROMIUM says where the browser is.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const PATIENCE_MS = 30_000;

const [scenario, url, ...rest] = process.argv.slice(2);
const origin = new URL(url).origin;
const wrong = [];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

/** A page that complains of whatever a user would not see: errors, and requests to anybody else. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`error: ${error.stack}`));
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (to.origin !== origin && to.protocol !== "data:") wrong.push(`request to ${request.url()}`);
  });
  await page.goto(url);
  await page.locator("#epoch").filter({ hasText: "Epoch" }).waitFor();
  return page;
}

const tell = (record) => console.log(JSON.stringify(record));

/** Points of a curve, as it says itself. */
async function points(page, chart) {
  const words = await page.locator(`#chart-${chart} .plot`).getAttribute("aria-label");
  return Number(/(\d+) points/.exec(words)?.[1] ?? 0);
}

async function fits(page) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(over <= 0, `the page is ${over} pixels too wide`);
}

/** Every column can be scrolled to within its panel, and no figure is cut. */
async function losesNothing(page) {
  const lost = await page.evaluate(() => {
    const gone = [...document.querySelectorAll("main :is(th, td):not(:first-child)")].filter((cell) => {
      const [inner, outer] = [cell, cell.closest(".scroll")].map((one) => one.getBoundingClientRect());
      const from = inner.left - outer.left + cell.closest(".scroll").scrollLeft;
      return !inner.width || from + inner.width > cell.closest(".scroll").scrollWidth + 1 || outer.right > innerWidth;
    });
    const cut = [...document.querySelectorAll(".value")].filter((value) => value.scrollWidth > value.clientWidth);
    return [...gone, ...cut].map((one) => `${one.tagName} ${one.textContent}`);
  });
  assert.deepEqual(lost, []);
}

/** Red as the eye has it, for light grounds and dark ones. */
function isRed(colour) {
  const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
  return red > green + 20 && red > blue + 20;
}

const SCENARIOS = {
  /** A run that goes on: its curves grow, its choices work. */
  async live() {
    const page = await open();
    assert.match(await page.locator("#status").innerText(), /Running/);
    const first = await points(page, "metric");
    await page.waitForFunction(([least]) => {
      const words = document.querySelector("#chart-metric .plot").getAttribute("aria-label") ?? "";
      return Number(/(\d+) points/.exec(words)?.[1] ?? 0) > least;
    }, [first + 20]);
    tell({ grew: [first, await points(page, "metric")] });
    await fits(page);
    for (const chart of ["metric", "rate", "grad", "speed", "stale"]) assert.ok((await points(page, chart)) > 0, chart);
    assert.ok((await page.locator("#workers tbody tr").count()) >= 2);
    assert.ok((await page.locator("#gantt canvas").getAttribute("aria-label")).includes("computing"));
    for (const choice of ["Epoch", "Step", "Loss", "Perplexity", "Time"]) {
      await page.getByRole("radio", { name: choice }).check();
      await page.waitForTimeout(50);
    }
    await page.getByLabel("Smooth").uncheck();
    await page.getByLabel("Log scale").uncheck();
    // By keyboard alone: the table's heads sort.
    await page.getByRole("button", { name: "Batches" }).focus();
    await page.keyboard.press("Enter");
    await page.locator("th[aria-sort=descending]", { hasText: "Batches" }).waitFor();
  },

  /** A worker goes, after the line `ready`: its row turns red and says why. */
  async lost() {
    const page = await open();
    await page.locator("#workers tr", { hasText: rest[0] }).waitFor();
    tell({ ready: true });
    const row = page.locator("#workers tr.lost", { hasText: rest[0] });
    await row.waitFor();
    const colour = await row.locator(".word").evaluate((word) => getComputedStyle(word).color);
    assert.ok(isRed(colour), colour);
    const words = await row.locator(".state").innerText();
    assert.match(words, /lost/);
    tell({ lost: words.replace(/\s+/g, " "), colour });
    await page.locator(".remark.bad", { hasText: rest[0] }).waitFor();
    await page.locator("#events li.fault", { hasText: rest[0] }).waitFor();
  },

  /** Dark, and on a phone. */
  async looks() {
    const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await open({ colorScheme: "light" });
    const dark = await open({ colorScheme: "dark" });
    assert.notEqual(await ground(light), await ground(dark));
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [320, 390, 768, 1920]) {
        const page = await open({ colorScheme, viewport: { width, height: 844 } });
        await page.locator("#workers tbody tr").first().waitFor();
        await page.waitForTimeout(300);
        await fits(page);
        await losesNothing(page);
        await page.context().close();
      }
    }
  },

  /** A long run of many workers: how soon all of it is there. */
  async big() {
    const started = performance.now();
    const page = await open();
    const shown = performance.now() - started;
    await page.locator("#steps").filter({ hasText: rest[0] }).waitFor({ timeout: 60_000 });
    const whole = performance.now() - started;
    assert.equal(await page.locator("#workers tbody tr").count(), Number(rest[1]));
    await page.locator("#find").fill("h63/");
    await page.waitForFunction(() => document.querySelectorAll("#workers tbody tr").length === 4);
    const heap = await page.evaluate(() => performance.memory?.usedJSHeapSize);
    tell({ shown_ms: Math.round(shown), whole_ms: Math.round(whole), heap_mib: Math.round(heap / 2 ** 20) });
    await fits(page);
  },

  /** A classifier is shown by its accuracy, and over it a run that has none. */
  async accuracy() {
    const page = await open();
    assert.equal(await page.locator("#metric-name").innerText(), "Train accuracy");
    assert.match(await page.locator("#valid").innerText(), /^valid [\d.]+ %, best [\d.]+ %$/);
    assert.match(await page.locator("#chart-metric").innerText(), /Accuracy \(%\)/);
    assert.ok((await points(page, "metric")) > 0);
    assert.match(await page.locator("#speed").innerText(), /examples\/s/);
    assert.doesNotMatch(await page.locator("body").innerText(), /perplexity|ppl|token/i);
    assert.ok(!(await page.getByLabel("Log scale").isChecked()));
    const keys = page.locator("#chart-metric .keys");
    await page.getByLabel(`Lay the curves of ${rest[0]} over this run's`).check();
    await page.locator("#measure").getByLabel("Loss").check();
    await keys.filter({ hasText: rest[0] }).waitFor();
    assert.equal(await page.locator("#metric-name").innerText(), "Train loss");
    assert.ok(await page.getByLabel("Log scale").isChecked());
    await page.locator("#measure").getByLabel("Accuracy").check();
    await keys.filter({ hasNotText: rest[0] }).waitFor();
    await fits(page);
  },

  /** Two runs over each other. */
  async compare() {
    const page = await open();
    const before = await page.locator("#chart-metric .keys li").count();
    await page.getByLabel(`Lay the curves of ${rest[0]} over this run's`).check();
    await page.waitForFunction((count) => document.querySelectorAll("#chart-metric .keys li").length > count, before);
    assert.match(await page.locator("#chart-metric .keys").innerText(), new RegExp(rest[0]));
    await page.locator("#runs a", { hasText: rest[0] }).click();
    await page.locator("h1", { hasText: rest[0] }).waitFor();
  },

  /** A picture for the manual. */
  async picture() {
    const page = await open({ viewport: { width: Number(rest[3] ?? 1280), height: 800 }, colorScheme: rest[1] ?? "light" });
    await page.waitForTimeout(Number(rest[2] ?? 3000));
    await page.screenshot({ path: rest[0], fullPage: true });
  },
};

try {
  await SCENARIOS[scenario]();
  assert.deepEqual(wrong, []);
} catch (error) {
  console.error(error.stack, wrong.join("\n"));
  process.exitCode = 1;
} finally {
  await browser.close();
}
