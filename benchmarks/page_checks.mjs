// SPDX-License-Identifier: Apache-2.0
// Accessibility (axe-core) and lengths of pages in headless Chromium, at two widths, light and dark.
//
// usage: npm install axe-core puppeteer-core
//        node benchmarks/page_checks.mjs OUT.json NAME=FILE.html ...
//
// Pages are measured as they open, folded; `unfolded` has what axe finds once everything is open.
// `screens` are of 900 px. `undecided` counts what axe leaves to a person.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const find = createRequire(path.join(process.cwd(), "x.js"));
const { default: puppeteer } = await import(pathToFileURL(find.resolve("puppeteer-core")));
const axe = fs.readFileSync(find.resolve("axe-core/axe.min.js"), "utf8");
const [out, ...pages] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"],
  protocolTimeout: 0,
});

async function check(page) {
  const found = await page.evaluate(async () => {
    const { scrollHeight, scrollWidth } = document.documentElement;
    const { violations, incomplete } = await axe.run({ resultTypes: ["violations", "incomplete"] });
    const named = (list) => Object.fromEntries(list.map((one) => [one.id, one.nodes.length]));
    const [wrong, undecided] = [named(violations), named(incomplete)];
    return { height: scrollHeight, reached: scrollWidth, violations: wrong, undecided };
  });
  return { ...found, screens: Math.round(found.height / 90) / 10 };
}

const rows = [];
for (const item of pages) {
  const [name, file] = item.split("=");
  for (const width of [1280, 390]) {
    for (const scheme of ["light", "dark"]) {
      const page = await browser.newPage();
      page.setDefaultTimeout(0);
      await page.setBypassCSP(true);
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.goto(pathToFileURL(path.resolve(file)).href, { waitUntil: "load" });
      await page.evaluate(axe);
      rows.push({ page: name, width, scheme, ...(await check(page)) });
      if (width === 1280 && scheme === "light") {
        await page.$$eval("details", (all) => all.forEach((one) => (one.open = true)));
        rows.at(-1).unfolded = (await check(page)).violations;
      }
      await page.close();
    }
  }
}
const made = {
  command: `node benchmarks/page_checks.mjs ${out} ${pages.map((one) => one.split("=")[0]).join(" ")}`,
  date: new Date().toISOString().slice(0, 10),
  versions: { axe: /axe v([\d.]+)/.exec(axe)[1], browser: await browser.version() },
  bytes: Object.fromEntries(
    pages.map((item) => item.split("=")).map(([name, file]) => [name, fs.statSync(file).size]),
  ),
  rows,
};
await browser.close();
fs.writeFileSync(out, `${JSON.stringify(made, null, 1)}\n`);
