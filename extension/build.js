// Bundles the views into one module that anywidget, a panel or a saved page can import.
import { context, build } from "esbuild";

const options = {
  entryPoints: ["src/widget.ts"],
  outfile: "../workbench/widgets/static/workbench.js",
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  loader: { ".css": "text" },
  logLevel: "info",
};

if (process.argv.includes("--watch")) {
  await (await context({ ...options, minify: false })).watch();
} else {
  await build(options);
}
