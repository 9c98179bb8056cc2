// Bundles src/ into dist/: one script and one style sheet, named by their content, the document that loads them, and
// the licences of what is bundled. `node build.mjs DIGEST`; scripts/page.py calls it.
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import esbuild from "esbuild";

const digest = process.argv[2] ?? "";
const out = `dist.${process.pid}`;

const built = await esbuild.build({
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});

const files = Object.keys(built.metafile.outputs).map((file) => basename(file));
const script = files.find((file) => file.endsWith(".js"));
const style = files.find((file) => file.endsWith(".css"));
const page = (await readFile("src/index.html", "utf8")).replace("app.js", script).replace("app.css", style);

const packages = new Set(
  Object.keys(built.metafile.inputs)
    .map((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1])
    .filter((name) => name !== undefined),
);
const licences = [];
for (const name of [...packages].sort()) {
  licences.push(`${name}\n\n${await readFile(`node_modules/${name}/LICENSE`, "utf8")}`);
}

await mkdir(out, { recursive: true });
await writeFile(`${out}/index.html`, page);
await writeFile(`${out}/icon.svg`, await readFile("src/icon.svg"));
await writeFile(`${out}/LICENSES.txt`, licences.join("\n----\n\n"));
await writeFile(`${out}/stamp.txt`, `${digest}\n`);
await rm("dist", { recursive: true, force: true });
await rename(out, "dist");
