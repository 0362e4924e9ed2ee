import { defineConfig, type Plugin } from "vite";
import { HEADERS, IN_PAGE } from "./csp.ts";

/** The built page carries its own policy; the development server could not work under it. */
const policy: Plugin = {
  name: "policy-in-page",
  apply: "build",
  transformIndexHtml: () => [
    { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: IN_PAGE }, injectTo: "head-prepend" },
  ],
};

export default defineConfig({
  base: "./", // works under any address, such as /ui/
  build: { target: "es2023", assetsInlineLimit: 0, chunkSizeWarningLimit: 1000, modulePreload: { polyfill: false } },
  worker: { format: "es" },
  preview: { headers: HEADERS },
  plugins: [policy],
});
