// The sampling settings of the playground, and what of them goes into a submit command.

import { h } from "../ui/dom.ts";

interface Field {
  readonly name: string;
  readonly label: string;
  readonly title: string;
  readonly initial: string;
  readonly whole: boolean;
  readonly step: string;
}

const FIELDS: readonly Field[] = [
  { name: "max_tokens", label: "Max tok", title: "Most new tokens", initial: "96", whole: true, step: "1" },
  {
    name: "temperature",
    label: "Temp",
    title: "0 takes the likeliest token",
    initial: "0.8",
    whole: false,
    step: "0.1",
  },
  {
    name: "top_p",
    label: "Top-p",
    title: "Smallest set of tokens with this much probability",
    initial: "0.95",
    whole: false,
    step: "0.05",
  },
  {
    name: "top_k",
    label: "Top-k",
    title: "Only the k likeliest tokens; 0 is all",
    initial: "0",
    whole: true,
    step: "1",
  },
  {
    name: "seed",
    label: "Seed",
    title: "Makes a request's tokens repeatable; empty takes the engine's",
    initial: "",
    whole: true,
    step: "1",
  },
];

/** Alternatives asked for with each token when probabilities are on. */
const ALTERNATIVES = 5;

export interface SamplingForm {
  readonly element: HTMLElement;
  /** Values for SamplingParams; throws an Error that names the field. */
  read(): Record<string, unknown>;
  /** The most new tokens alone; throws an Error if that is no number. */
  maxTokens(): number;
}

/** Turn the texts of the fields into parameters. An empty field leaves the engine's default. */
export function readParams(texts: Record<string, string>, logprobs: boolean): Record<string, unknown> {
  const params: Record<string, unknown> = {};
  for (const field of FIELDS) {
    const text = (texts[field.name] ?? "").trim();
    if (text === "") continue;
    const value = Number(text);
    if (!Number.isFinite(value) || (field.whole && !Number.isInteger(value))) {
      throw new Error(`${field.label} must be ${field.whole ? "a whole number" : "a number"}, not “${text}”.`);
    }
    params[field.name] = value;
  }
  if (logprobs) params["logprobs"] = ALTERNATIVES;
  return params;
}

export function samplingForm(): SamplingForm {
  const inputs = FIELDS.map((field) =>
    h("input", {
      class: "iw-field",
      type: "text",
      inputmode: field.whole ? "numeric" : "decimal",
      value: field.initial,
      placeholder: "auto",
      title: field.title,
      "aria-label": field.label,
      "data-testid": `param-${field.name}`,
    }),
  );
  const logprobs = h("input", { type: "checkbox", checked: true, "data-testid": "param-logprobs" });
  const element = h(
    "div",
    { class: "iw-sampling" },
    ...FIELDS.map((field, i) => h("label", { title: field.title }, h("span", {}, field.label), inputs[i]!)),
    h(
      "label",
      { class: "iw-check", title: "Ask for the probability of each token and its alternatives" },
      logprobs,
      "Probabilities",
    ),
  );
  return {
    element,
    maxTokens: () => {
      const { value } = inputs[0]!;
      return Number(readParams({ max_tokens: value }, false)["max_tokens"] ?? FIELDS[0]!.initial);
    },
    read: () => readParams(Object.fromEntries(FIELDS.map((f, i) => [f.name, inputs[i]!.value])), logprobs.checked),
  };
}
