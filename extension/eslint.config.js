import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules/", "lib/", "dev/out/"] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  {
    files: ["*.js", "dev/*.js"],
    languageOptions: { globals: { process: "readonly", console: "readonly" } },
  },
  {
    rules: {
      // Index access is checked by the compiler (noUncheckedIndexedAccess); "!" marks the places proven by hand.
      "@typescript-eslint/no-non-null-assertion": "off",
      eqeqeq: "error",
    },
  },
);
