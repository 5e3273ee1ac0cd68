import js from "@eslint/js";
import globals from "globals";

const MARKUP = ["innerHTML", "outerHTML", "insertAdjacentHTML", "write", "srcdoc"];

export default [
  js.configs.recommended,
  {
    files: ["assets/*.js"],
    languageOptions: { ecmaVersion: 2024, sourceType: "module", globals: globals.browser },
    rules: {
      complexity: ["error", 20],
      eqeqeq: "error",
      "max-lines": ["error", 300],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-restricted-properties": ["error", ...MARKUP.map((property) => ({ property, message: "what a trace holds is never markup" }))],
      "no-shadow": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
