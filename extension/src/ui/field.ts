import { h } from "./dom.ts";

export interface NumberField {
  readonly label: string;
  readonly id: string;
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly step?: number;
  readonly hint?: string;
}

/** A number with its name before it. */
export function numberField(
  field: NumberField,
  changed: () => void,
): { element: HTMLElement; input: HTMLInputElement } {
  const input = h("input", {
    type: "number",
    class: "iw-field",
    min: field.min,
    max: field.max,
    step: field.step ?? 1,
    inputmode: "decimal",
    value: field.value,
    "data-testid": field.id,
    oninput: changed,
  });
  const label = h("label", { title: field.hint ?? "" }, h("span", { class: "iw-dim" }, field.label), input);
  return { element: label, input };
}
