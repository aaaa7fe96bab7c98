// A new notebook with the few cells that bring an engine to life.

import type { Contents, KernelSpec } from "@jupyterlab/services";

const CELLS: readonly (readonly ["markdown" | "code", string])[] = [
  [
    "markdown",
    "# Playground\n\nRun the cells from the top. The first one loads the bundled story model, which takes a few seconds; " +
      "then press *Arrange workbench* in the sidebar to see everything beside this notebook.",
  ],
  ["code", "from workbench import LLM, SamplingParams\n\nllm = LLM()\nllm"],
  [
    "code",
    'prompts = ["Once upon a time", "The dog ran", "A tiny mouse", "The old bear was"]\n' +
      "outputs = llm.generate(prompts, SamplingParams(temperature=0.8, max_tokens=120))\n" +
      'for output in outputs:\n    print(output.prompt + output.outputs[0].text, end="\\n\\n")',
  ],
  ["markdown", "In slow motion, step by step:"],
  ["code", 'llm.pause()\nhandle = llm.submit("One rainy day", SamplingParams(max_tokens=60))\nllm.step(3)'],
  ["code", "llm.resume()\nhandle.result()\nllm.why(handle)"],
];

/** The notebook as JSON; `kernel` names what it runs on, so that nobody is asked. */
export function playgroundNotebook(kernel: KernelSpec.ISpecModel | null): Record<string, unknown> {
  const kernelspec =
    kernel === null
      ? {}
      : { kernelspec: { name: kernel.name, display_name: kernel.display_name, language: kernel.language } };
  return {
    nbformat: 4,
    nbformat_minor: 5,
    metadata: kernelspec,
    cells: CELLS.map(([type, source], index) => ({
      id: `playground-${index}`,
      cell_type: type,
      source,
      metadata: {},
      ...(type === "code" ? { outputs: [], execution_count: null } : {}),
    })),
  };
}

/** A name that is not taken in the folder: playground.ipynb, playground-2.ipynb, … */
export function freeName(stem: string, taken: ReadonlySet<string>): string {
  for (let n = 1; ; n++) {
    const name = n === 1 ? `${stem}.ipynb` : `${stem}-${n}.ipynb`;
    if (!taken.has(name)) return name;
  }
}

/** Write a new playground notebook into a folder; returns its path. */
export async function newPlayground(
  contents: Contents.IManager,
  folder: string,
  kernel: KernelSpec.ISpecModel | null,
): Promise<string> {
  const listing = await contents.get(folder, { content: true });
  const taken = new Set((listing.content as { name: string }[]).map((item) => item.name));
  const name = freeName("playground", taken);
  const path = folder === "" ? name : `${folder}/${name}`;
  await contents.save(path, { type: "notebook", format: "json", content: playgroundNotebook(kernel) });
  return path;
}
