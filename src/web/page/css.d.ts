/** Style sheets that are bundled into page.css. */
declare module "*.css";
