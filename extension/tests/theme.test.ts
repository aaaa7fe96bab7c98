import assert from "node:assert/strict";
import { test } from "node:test";

import { type PageSigns, pageTheme } from "../src/ui/theme.ts";

const SILENT: PageSigns = {
  jupyterLight: undefined,
  classes: [],
  htmlTheme: null,
  colab: false,
  background: null,
  prefersDark: false,
};
const of = (signs: Partial<PageSigns>): string => {
  const { host, dark } = pageTheme({ ...SILENT, ...signs });
  return `${host} ${dark ? "dark" : "light"}`;
};

test("JupyterLab's mark comes before everything else", () => {
  assert.equal(of({ jupyterLight: "false", background: [255, 255, 255] }), "jupyter dark");
  assert.equal(of({ jupyterLight: "true", prefersDark: true }), "jupyter light");
});

test("each of VS Code's four kinds of theme, whatever the machine prefers", () => {
  const kinds = {
    "vscode-dark": "vscode dark",
    "vscode-light": "vscode light",
    "vscode-high-contrast": "vscode dark",
    "vscode-high-contrast vscode-high-contrast-light": "vscode light",
  };
  for (const [classes, theme] of Object.entries(kinds)) {
    for (const prefersDark of [false, true]) {
      assert.equal(of({ classes: ["vscode-body", ...classes.split(" ")], prefersDark }), theme, classes);
    }
  }
});

test("Colab says dark on <html>, and light by saying nothing", () => {
  assert.equal(of({ colab: true, htmlTheme: "dark" }), "other dark");
  assert.equal(of({ colab: true, prefersDark: true }), "other light");
  assert.equal(of({ htmlTheme: "light", prefersDark: true }), "other light");
});

test("any other page is as dark as what it paints behind the view, and as the machine prefers if that is nothing", () => {
  assert.equal(of({ background: [24, 28, 26], prefersDark: false }), "other dark");
  assert.equal(of({ background: [238, 238, 238], prefersDark: true }), "other light");
  assert.equal(of({ prefersDark: true }), "other dark");
  assert.equal(of({}), "other light");
});
