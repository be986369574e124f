import { expect } from "chai";
import { recipeNamed, recipes } from "../../src/api/recipes.ts";
import { resolveSpec } from "../../src/artifact/artifact-spec.ts";
import { methods } from "../../src/methods/index.ts";

describe("recipes", () => {
  for (const recipe of recipes) {
    it(`${recipe.name} fits its method`, () => {
      const { method, optimizer } = resolveSpec(recipe);
      expect(method.config).to.include(recipe.config ?? {});
      if (typeof recipe.optimizer === "object") {
        const { name, config, ...rates } = recipe.optimizer;
        expect(optimizer.name).to.equal(name);
        expect(optimizer.config).to.deep.include({ ...rates, ...config });
      }
    });
  }

  it("have names of their own, and cover every method but the negative control", () => {
    const names = recipes.map(({ name }) => name);
    expect(names).to.deep.equal([...new Set(names)].sort());
    const covered = new Set(recipes.map(({ method }) => method));
    const left = methods.map(({ name }) => name).filter((name) => !covered.has(name));
    expect(left).to.deep.equal(["similarity"]);
  });

  it("are found by name, else the nearest is named", () => {
    expect(recipeNamed("moco-v2-imagenet").method).to.equal("moco");
    expect(() => recipeNamed("moco-v3-imagenet")).to.throw('did you mean "moco-v1-imagenet"?');
  });
});
