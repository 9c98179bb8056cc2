/** Where the page begins. */
import { render } from "preact";
import { App } from "./app.tsx";
import { hearKeys } from "./state/keys.ts";
import { start } from "./state/store.ts";
import "./styles/page.css";

const place = document.getElementById("page");
if (place === null) throw new Error("the document has no #page");
start();
hearKeys();
render(<App />, place);
