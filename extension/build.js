// Two bundles of the same views: a module that anywidget or a saved page can import, and the JupyterLab extension.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { build, context } from "esbuild";

const watching = process.argv.includes("--watch");
const common = {
  bundle: true,
  format: "esm",
  target: "es2022",
  loader: { ".css": "text", ".svg": "text" },
  legalComments: "none",
  logLevel: "info",
};
const widget = {
  ...common,
  entryPoints: ["src/widget.ts"],
  outfile: "../workbench/widgets/static/workbench.js",
  minify: !watching,
};
// Our own code in one module; JupyterLab's packages stay imports, which the builder below binds to the page's copies.
const lab = { ...common, entryPoints: ["src/lab/index.ts"], outfile: "lib/lab.js", packages: "external" };

/** JupyterLab's own builder: lib/lab.js becomes the prebuilt extension in lib/labextension. */
function buildLabExtension() {
  const { resolve } = createRequire(import.meta.url);
  const core = resolve("@jupyterlab/core-meta/core.package.json");
  const builder = resolve("@jupyter/builder/lib/build-labextension.js");
  execFileSync(process.execPath, [builder, "--core-package-file", core, "."], { stdio: "inherit" });
}

/** The tutorials travel in the extension, so that a reader who has installed only the wheel can open them. */
function addTutorials() {
  const folder = "../notebooks/";
  const names = readdirSync(folder).filter((name) => name.endsWith(".ipynb"));
  const tutorials = names.sort().map((name) => ({ name, notebook: JSON.parse(readFileSync(folder + name, "utf8")) }));
  writeFileSync("lib/labextension/static/tutorials.json", JSON.stringify(tutorials));
}

if (watching) {
  await (await context(widget)).watch();
} else {
  await build(widget);
  await build(lab);
  buildLabExtension();
  addTutorials();
}
